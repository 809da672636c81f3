"""Numbers of recipes: finite, of 64 bits, of a size that can be; whatever component has them."""

import itertools
import math
import typing

import attrs
import pytest

import genkit
from genkit.cli import main
from genkit.errors import RecipeError
from genkit.kernel import registry, resolving, values
from genkit.kernel.loading import load_recipe
from genkit.kernel.recipe import CORE_TABLES
from genkit.kernel.toml import Places
from genkit.kinds import fields, setting
from genkit.levels import Levels

CLASSES = {f"{kind}.{name}": registry.load(info) for (kind, name), info in registry.components().items()}
CLASSES |= {name: cls for name, cls in CORE_TABLES.items() if attrs.has(cls)}


def numbers(wanted):
    """A list, or a number itself, as the type of a field has them; and which type of number."""
    if wanted in (int, float):
        return [(wanted, lambda number: number)]
    inner = [found for arm in typing.get_args(wanted) if arm is not Ellipsis for found in numbers(arm)]
    is_list = typing.get_origin(wanted) in (tuple, list)
    return [(kind, (lambda n, of=of: [of(n)]) if is_list else of) for kind, of in inner]


SETTINGS = [
    (where, name, kind, of)
    for where, cls in CLASSES.items()
    for name, field in fields(cls)
    if field.type is not None and "slot" not in field.metadata
    for kind, of in numbers(values.type_of(cls, field))
]


def problems(cls, **table):
    found = []
    resolving.settings(cls, table, ("here",), found, Places())
    return [str(problem) for problem in found if "must be given" not in str(problem)]


def test_there_are_settings_to_look_at():
    assert sum(kind is float for *_, kind, _ in SETTINGS) > 30 and sum(kind is int for *_, kind, _ in SETTINGS) > 40
    assert {"levels", "train", "loss.pseudo-huber", "sampler.consistency"} <= {where for where, *_ in SETTINGS}


@pytest.mark.parametrize(("where", "name", "kind", "of"), SETTINGS, ids=[f"{w}.{n}" for w, n, *_ in SETTINGS])
def test_every_number_is_finite_and_of_64_bits(where, name, kind, of):
    wrong = [math.inf, -math.inf, math.nan] if kind is float else [2**63, -(2**63) - 1, 10**4000]
    for number in [*wrong, 10**400]:
        told = problems(CLASSES[where], **{name: of(number)})
        assert len(told) == 1 and f"here.{name}: " in told[0] and "\n" not in told[0]
        assert len(told[0]) < 500


def test_every_default_is_a_number_that_passes():
    for where, name, _, _ in SETTINGS:
        default = dict(fields(CLASSES[where]))[name].default
        assert default is attrs.NOTHING or problems(CLASSES[where], **{name: default}) == [], (where, name)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_component_made_in_python_is_held_to_it(value):
    with pytest.raises(RecipeError, match=r"loss\.c: expected a finite number"):
        genkit.component("loss", "pseudo-huber", c=value)
    with pytest.raises(ValueError, match="finite number"):
        CLASSES["noise.lognormal"](p_mean=value)
    with pytest.raises(ValueError, match="finite number"):
        CLASSES["sampler.consistency"](levels=(0.5, value))


def test_a_setting_may_say_that_infinity_means_something():
    @attrs.frozen(kw_only=True)
    class Limit:
        most: float = setting(1.0, "how much", finite=False)
        few: tuple[float, ...] = setting((), "a few", finite=False)
        other: float = attrs.field(default=1.0)  # made without `setting`, and finite all the same

    assert problems(Limit, most=math.inf, few=[math.inf]) == [] and Limit(most=math.inf).most == math.inf
    assert "finite number" in problems(Limit, other=math.inf)[0]


@pytest.mark.parametrize("seed", [2**63, 2**64, 10**30, -1])
def test_a_seed_has_64_bits(seed):
    for key in ("train.seed", "evaluate.seed"):
        with pytest.raises(RecipeError, match=rf"{key}: .*(beyond 64 bits|must be >= 0)") as caught:
            load_recipe("ict_ring", [f"{key}={seed}"])
        assert "\n" not in str(caught.value)
    assert load_recipe("ict_ring", [f"train.seed={2**63 - 1}"]).train.seed == 2**63 - 1


@pytest.mark.parametrize("command", ["sample", "edit", "search-steps"])
@pytest.mark.parametrize("seed", ["99999999999999999999", "-1"])
def test_a_seed_of_a_command_has_64_bits(command, seed, capsys):
    with pytest.raises(SystemExit) as left:
        main([command, "latest", "--seed", seed])
    assert left.value.code == 2
    assert capsys.readouterr().err.splitlines() == [f"genkit: --seed: {seed} is no seed; name one from 0 to 2^63 - 1"]


@pytest.mark.parametrize(
    "settings",
    [
        {"rho": 0.001},
        {"rho": 1e-320},
        {"rho": 0.005},  # 0.002^200 is 0
        {"rho": 1e15},
        {"rho": math.inf},
        {"sigma_max": math.inf},
        {"sigma_max": 1e39},  # inf in float32
        {"sigma_min": 1e-46},  # 0 in float32
        {"sigma_min": 1.0, "sigma_max": 1 + 1e-12},
    ],
    ids=str,
)
def test_levels_without_a_grid_are_refused(settings):
    with pytest.raises(ValueError, match=r"no grid of rho = .* rises"):
        Levels(**settings)
    words = [f"levels.{name}={value}" for name, value in settings.items()]
    with pytest.raises(RecipeError, match="levels") as caught:
        load_recipe("ict_ring", words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n", [2, 3, 11, 1281, 10_000])
@pytest.mark.parametrize("rho", [0.01, 0.1, 1.0, 3.0, 7.0, 100.0, 1e4])
@pytest.mark.parametrize(("low", "high"), [(0.002, 80.0), (1e-6, 1e4), (0.5, 0.6)])
def test_levels_that_pass_have_grids_that_rise_between_their_ends(low, high, rho, n):
    try:
        levels = Levels(sigma_min=low, sigma_max=high, rho=rho)
    except ValueError:
        pytest.skip("refused")
    sigmas = levels.sigmas(n).tolist()
    assert (sigmas[0], sigmas[-1]) == (low, high) and all(a < b for a, b in itertools.pairwise(sigmas))


def test_the_usual_levels_pass():
    for rho in (0.1, 1.0, 3.0, 7.0, 100.0):
        Levels(rho=rho)


@pytest.mark.parametrize(
    "word",
    [
        "train.threads=1000000000",
        "train.threads=4097",
        "train.batch_size=10000000000",
        "train.micro_batch=10000000000",
        "train.steps=10000000000000",
        "train.save_every_steps=10000000000000",
        "evaluate.samples=1000000000000",
        "evaluate.seeds=1000000000000",
        "evaluate.steps=[1000000000]",
        "evaluate.every_steps=10000000000000",
    ],
)
def test_absurd_sizes_are_told_before_anything_is_begun(word):
    with pytest.raises(RecipeError, match=rf"{word.partition('=')[0]}: .*must be <= ") as caught:
        load_recipe("ict_ring", [word])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("word", ["train.threads=4096", "train.batch_size=65536", "evaluate.samples=1000000000"])
def test_large_sizes_are_not_absurd(word):
    load_recipe("ict_ring", [word])
