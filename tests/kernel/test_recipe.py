"""Recipes: every problem at once with its place, extension, overrides, swaps, identity."""

import re

import pytest

import genkit
from genkit.errors import PluginError, RecipeError
from genkit.kernel import registry, toml
from genkit.kernel.identity import identity
from genkit.kernel.loading import load_recipe, recipe_of
from genkit_components.recipes import provenance_of

BASE = """
genkit = 1
[dataset]
use = "ring"
[objective]
use = "consistency"
[network]
use = "mlp"
[loss]
use = "pseudo-huber"
c = 0.1
[train]
steps = 10
"""


def write(path, text):
    path.write_text(text)
    return path


@pytest.fixture
def base(tmp_path):
    return write(tmp_path / "base.toml", BASE)


def problems(path, *overrides, swaps=()):
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides, swaps)
    return caught.value.problems


def test_a_short_recipe_is_complete(base):
    recipe = load_recipe(base)
    assert recipe.name == "base" and recipe.objective.loss.c == 0.1
    assert recipe.tree()["curriculum"] == {"use": "exponential", "s0": 10, "s1": 1280}


def test_a_resolved_recipe_resolves_to_itself(base, tmp_path):
    recipe = load_recipe(base)
    again = load_recipe(write(tmp_path / "again.toml", recipe.toml()))
    assert again.tree() == recipe.tree() and identity(again, "d") == identity(recipe, "d")


def test_every_problem_is_told_at_once_with_file_line_and_remedy(tmp_path):
    path = write(
        tmp_path / "bad.toml",
        BASE.replace("c = 0.1", "cc = 0.1").replace("steps = 10", 'steps = "10"').replace('"ring"', '"rign"')
        + "[nosie]\nuse = 'lognormal'\n",
    )
    told = "\n".join(problems(path))
    assert len(told.splitlines()) == 4
    assert "bad.toml:4 dataset.use: no dataset named 'rign'; did you mean 'ring'" in told
    assert "bad.toml:11 loss.cc: unknown key 'cc' of pseudo-huber" in told
    assert "bad.toml:13 train.steps: expected int, got '10'" in told
    assert "bad.toml:14 nosie: objective 'consistency' has no slot 'nosie'; did you mean 'noise'" in told


@pytest.mark.parametrize("value", ["true", "2.7", '"3"', "[3]"])
def test_values_are_never_bent_into_the_type_that_is_wanted(base, value):
    assert "expected int" in problems(base, f"train.steps={value}")[0]


def test_an_int_is_a_float_but_not_the_other_way(base):
    assert load_recipe(base, ["optimizer.lr=1"]).optimizer.lr == 1.0


def test_a_validators_words_reach_the_user_with_the_key(base):
    assert re.search(r"loss\.c: 'c' must be >= 0: -1\.0", problems(base, "loss.c=-1.0")[0])


def test_a_key_in_the_wrong_table_is_told_where_it_stands(tmp_path):
    path = write(tmp_path / "r.toml", BASE + "[optimizer]\nuse = 'adam'\nsigma_max = 3\n")
    assert "there is levels.sigma_max" in problems(path)[0]


def test_a_table_whose_use_changes_is_replaced_not_merged(base, tmp_path):
    child = write(tmp_path / "child.toml", 'extends = "base.toml"\n[loss]\nuse = "l2"\n[train]\nbatch_size = 8\n')
    recipe = load_recipe(child)
    assert recipe.tree()["loss"] == {"use": "l2"}
    assert (recipe.train.steps, recipe.train.batch_size) == (10, 8)


def test_several_bases_apply_in_order(base, tmp_path):
    write(tmp_path / "more.toml", "[train]\nsteps = 20\nseed = 3\n")
    recipe = load_recipe(write(tmp_path / "child.toml", 'extends = ["base.toml", "more.toml"]\n'))
    assert (recipe.train.steps, recipe.train.seed) == (20, 3)


def test_a_recipe_that_extends_itself_is_told_the_chain(tmp_path):
    write(tmp_path / "a.toml", 'extends = "b.toml"\n')
    write(tmp_path / "b.toml", 'extends = "a.toml"\n')
    told = problems(tmp_path / "a.toml")[0]
    assert "extends itself" in told and "a.toml -> b.toml -> a.toml" in told


def test_provenance_names_who_wrote_each_value(base, tmp_path):
    child = write(tmp_path / "child.toml", 'extends = "base.toml"\n[loss]\nc = 0.2\n')
    who = {key: where for key, _, where in provenance_of(load_recipe(child, ["train.seed=4"]))}
    assert who["loss.c"].endswith("child.toml:3") and who["train.steps"].endswith("base.toml:13")
    assert (who["train.seed"], who["noise.p_mean"]) == ("command line", "default")


def test_overrides_follow_the_recipe_and_bare_words_are_strings(base):
    recipe = load_recipe(base, ["train.steps=5", "loss.use=l1", "name=short"])
    assert (recipe.train.steps, recipe.tree()["loss"], recipe.name) == (5, {"use": "l1"}, "short")


def test_a_changed_use_on_the_command_line_keeps_the_settings_given_with_it(base):
    recipe = load_recipe(base, ["loss.c=0.5", "loss.use=pseudo-huber"])
    assert recipe.objective.loss.c == 0.5


def test_metrics_can_be_left_out(base):
    recipe = load_recipe(base, ["metrics.fd.use=fd", "metrics.fd=false"])
    assert recipe.metrics == {}


def test_a_setting_of_a_metric_that_is_false_does_not_take_the_metric_out(base):
    recipe = load_recipe(base, ["metrics.fd.use=fd", "metrics.fd.floor=false"])
    assert recipe.metrics["fd"].floor is False


def test_naming_the_objective_alone_keeps_its_slots(base):
    assert load_recipe(base, ["objective=consistency"]).objective == load_recipe(base).objective


@pytest.mark.parametrize("swap", ["loss=l2", 'loss={use="pseudo-huber", c=0.3}', "objective.loss=l2"])
def test_a_swap_replaces_the_whole_table(base, swap):
    assert load_recipe(base, swaps=[swap]).tree()["loss"] in ({"use": "l2"}, {"use": "pseudo-huber", "c": 0.3})


def test_swapping_what_all_arms_share_is_refused(base):
    assert "no component to swap" in problems(base, swaps=["metrics.fd=fd"])[0]


def test_a_sampler_that_does_not_fit_is_refused(base):
    assert "sampler 'heun' needs a model that predicts denoised" in problems(base, "sampler.use=heun")[0]


def test_a_slots_own_settings_of_its_default_give_way_to_a_component_that_is_named(base):
    def law(*overrides):
        noise = load_recipe(base, overrides, ["objective=diffusion"]).tree()["noise"]
        return noise["p_mean"], noise["p_std"]

    assert law() == (-1.2, 1.2) and law("noise.p_std=1.0") == (-1.2, 1.0)
    assert law("noise.use=lognormal") == (-1.1, 2.0)


def test_a_missing_bundled_plugin_is_named(base, monkeypatch):
    monkeypatch.setenv("GENKIT_WITHOUT", "ict")
    registry.forget()
    try:
        with pytest.raises(PluginError, match="provided by genkit-lab-ict, which is disabled") as caught:
            load_recipe(base, swaps=["curriculum=constant", "noise=uniform", "weighting=uniform", "teacher=ema"])
    finally:
        monkeypatch.undo()
        registry.forget()
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"a = [" + b"[" * 4000, "nested too deep"),
        (b"a = 1\na = 2\n", "not TOML"),
        ("[x]\ny = 'ä'".encode("utf-16"), "UTF-16"),
        (b"x = " + b"9" * 5000, "not TOML"),
        (b"#" * 300_000, "at most"),
        (b"a." * 5000 + b"a = 1", "too many parts"),
        (b"a" * 250_000, "not TOML"),
        (b"[" + b"a." * 5000 + b"a]", "too many parts"),
        (b"[[" + b"a." * 5000 + b"a]]", "too many parts"),
    ],
    ids=["deep", "twice", "utf-16", "digits", "large", "dots", "long", "header", "headers"],
)
def test_a_file_that_is_no_recipe_is_one_line(tmp_path, text, told):
    path = tmp_path / "r.toml"
    path.write_bytes(text)
    with pytest.raises(RecipeError, match=told) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)


def test_a_recipe_from_python_leaves_what_it_is_given():
    objective = {"use": "consistency"}
    assert recipe_of(dataset="digits", objective=objective, loss="l2", train={"steps": 1}).objective.loss is not None
    assert objective == {"use": "consistency"}


def test_an_unknown_recipe_is_told_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'ict_digits'"):
        load_recipe("ict_digit")


def test_a_recipes_path_without_a_checkout_takes_the_installed_one_and_says_so():
    recipe = load_recipe("recipes/ict_digits.toml")
    assert recipe.name == "ict_digits" and "installed recipe ict_digits" in recipe.notices[0]


def test_the_line_index_skips_what_is_no_key():
    text = 'a = """\nb = 1\n"""\n[t]  # c\n"q" = 2\nlong = [\n  1,\n]\nd.e = 3\n'
    index = toml.line_index(text)
    assert index == {("a",): 1, ("t",): 4, ("t", "q"): 5, ("t", "long"): 6, ("t", "d", "e"): 9}


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("train.seed=1", False),
        ("train.steps=11", False),
        ("loss.c=0.2", False),
        ("train.precision=bf16", False),
        ("train.precision=tf32", False),
        ("levels.rho=5.0", False),
        ("optimizer.lr=0.5", False),
        ("ema.decay=0.5", False),
        ("teacher.use=ema", False),
        ("name=other", True),
        ("train.micro_batch=2", True),
        ("train.micro_batch=auto", True),
        ("train.deterministic=false", True),
        ("train.compile=true", True),
        ("train.compile=reduce-overhead", True),
        ("evaluate.samples=7", True),
        ("metrics.fd.use=fd", True),
        ("train.save_every_steps=3", True),
        ("sampler.levels=[0.5]", True),
        ("train.threads=1", True),
    ],
)
def test_the_id_holds_what_can_change_weights_and_nothing_else(base, override, same):
    here, there = (identity(load_recipe(base, o), "data") for o in ([], [override]))
    assert (here == there) is same


def test_the_id_depends_on_the_data_and_not_on_defaults_written_out(base):
    recipe = load_recipe(base)
    assert identity(recipe, "a") != identity(recipe, "b")
    assert identity(load_recipe(base, ["noise.p_mean=-1.1"]), "a") == identity(recipe, "a")


def test_a_raised_revision_makes_a_new_run(base, monkeypatch):
    recipe = load_recipe(base)
    before = identity(recipe, "d")
    monkeypatch.setattr(type(recipe.objective.loss), "revision", 2, raising=False)
    assert identity(recipe, "d") != before


def test_a_slot_that_came_later_makes_no_new_run_while_it_holds_what_was_done_before(base, monkeypatch):
    grid = load_recipe(base, swaps=["pairs=grid"])
    before = identity(grid, "d")
    assert before == identity(load_recipe(base), "d")
    monkeypatch.setattr(type(grid.objective.pairs), "revision", 2, raising=False)
    assert identity(grid, "d") != before


def test_components_from_python_are_checked_like_recipes():
    with pytest.raises(RecipeError, match="unknown key 'cc' of pseudo-huber"):
        genkit.component("loss", "pseudo-huber", cc=0.03)
    assert genkit.component("objective", "consistency", loss="l2").loss == genkit.component("loss", "l2")
