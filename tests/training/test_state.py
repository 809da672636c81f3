"""A state goes on bit for bit whatever groups its optimizer has, and takes nothing that is not its own."""

import json
import math
import shutil
from pathlib import Path

import attrs
import pytest
import torch

import genkit
from genkit.errors import CheckpointError, DataError
from genkit.runs import models, planning
from genkit.training import checkpoint
from genkit.training.state import State
from genkit.training.step import train

SMALL = ["network.model_channels=4", "network.num_blocks=1", "train.batch_size=8", "train.steps=9"]


@attrs.frozen
class TwoGroups:
    """A decay and a no-decay group with rates of their own, in another order than the program's parameters.

    `turned` has the groups, and the parameters in each, the other way round.
    """

    turned: bool = False
    whole: bool = False

    def optimizer(self, params):
        last = params[::-1] if not self.turned else params
        decay = {"params": [p for _, p in last if p.dim() > 1], "weight_decay": 0.3, "lr": 1e-3}
        free = {"params": [p for _, p in last if p.dim() <= 1], "weight_decay": 0.0, "lr": 3e-3}
        if self.whole:
            return torch.optim.AdamW([p for _, p in params], lr=1e-3, weight_decay=0.3)
        return torch.optim.AdamW([free, decay] if not self.turned else [decay, free])

    def lr_scale(self, k, total_steps):
        return 1 - k / total_steps


@pytest.fixture(scope="module")
def planned():
    return planning.plan(genkit.load_recipe("ict_digits", SMALL), Path("out"), "cpu")


def started(planned, rule=None, steps=0):
    state = State.of(planned.program(), rule or planned.recipe.optimizer, planned.recipe.ema)
    taken = train(state, planned.data, planned.recipe.train)
    for _ in range(steps):
        next(taken)
    return state


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def copies(state):
    return {name: t.clone() for name, t in state.tensors().items()}


@pytest.mark.parametrize("turned", [False, True])
def test_two_parameter_groups_go_on_bit_for_bit_in_whatever_order(planned, tmp_path, turned):
    whole = started(planned, TwoGroups(turned), 9)
    half = started(planned, TwoGroups(), 4)
    checkpoint.save(tmp_path, 4, copies(half), half.numbers())
    state = started(planned, TwoGroups(turned))
    state.restore(*checkpoint.load(tmp_path / "step-0000004"))
    groups = state.optimizers["student"].param_groups
    assert {(g["initial_lr"], g["weight_decay"]) for g in groups} == {(1e-3, 0.3), (3e-3, 0.0)}
    assert all(g["weight_decay"] == (0.3 if g["params"][0].dim() > 1 else 0.0) for g in groups)
    assert all(math.isclose(g["lr"], g["initial_lr"] * (1 - 3 / 9)) for g in groups)
    for _ in train(state, planned.data, planned.recipe.train):
        pass
    assert same(state.tensors(), whole.tensors())


def test_the_probe_can_fail():
    """The two orders are orders: by position, moments would go astray."""
    params = [("w", torch.nn.Parameter(torch.zeros(2, 2))), ("b", torch.nn.Parameter(torch.zeros(2)))]
    shapes = [[p.shape for g in TwoGroups(t).optimizer(params).param_groups for p in g["params"]] for t in (0, 1)]
    assert shapes[0] != shapes[1]


def test_groups_that_were_merged_are_no_guess(planned):
    half, other = started(planned, TwoGroups(), 2), started(planned, TwoGroups(whole=True))
    with pytest.raises(CheckpointError, match="another group than before"):
        other.restore(half.tensors(), half.numbers())


def dropped(prefix):
    def spoil(tensors, numbers):
        tensors.pop(next(name for name in tensors if name.startswith(prefix)))

    return spoil


def changed(prefix, change):
    def spoil(tensors, numbers):
        name = next(name for name, t in tensors.items() if name.startswith(prefix) and t.dim() > 1)
        tensors[name] = change(tensors[name])

    return spoil


def to_half(tensors, numbers):
    tensors.update({name: t.half() for name, t in tensors.items() if t.is_floating_point()})


def nan(tensor):
    return tensor.index_put((torch.tensor(0),), torch.tensor(math.nan))


MOMENT = "optimizer/student/"
SPOILT = {
    "a weight is missing": (dropped("program/"), "' is missing"),
    "a weight has another shape": (changed("program/", lambda t: t[:1]), "has shape"),
    "a weight is cast": (changed("program/", lambda t: t.half()), "float16, not .* float32"),
    "a weight is of integers": (changed("program/", lambda t: t.int()), "int32, not .* float32"),
    "a weight is surplus": (lambda t, n: t.update({"program/more": torch.ones(1)}), "'program/more' is surplus"),
    "a weight is NaN": (changed("program/", nan), "'program/.*' holds NaN or infinite numbers"),
    "an average is missing": (dropped("ema/"), "'ema/.*' is missing"),
    "an average has another shape": (changed("ema/", lambda t: t[:1]), "'ema/.*' has shape"),
    "an average is surplus": (lambda t, n: t.update({"ema/more": torch.ones(1)}), "'ema/more' is surplus"),
    "an average is infinite": (changed("ema/", lambda t: t / 0), "'ema/.*' holds NaN or infinite numbers"),
    "all is cast": (to_half, "float16, not .* float32"),
    "a moment is missing": (dropped(MOMENT), "' is missing"),
    "all moments are missing": (
        lambda t, n: [t.pop(name) for name in list(t) if name.startswith(MOMENT)],
        "' is missing",
    ),
    "a moment has another shape": (changed(MOMENT, lambda t: t[:1]), "has shape"),
    "a moment is cast": (changed(MOMENT, lambda t: t.half()), "float16, not .* float32"),
    "a moment is surplus": (lambda t, n: t.update({f"{MOMENT}x/y": torch.ones(1)}), "is surplus"),
    "k is text": (lambda t, n: n.update(k="4"), "k is '4'"),
    "k is missing": (lambda t, n: n.pop("k"), "'k' is missing"),
    "the optimizers are missing": (lambda t, n: n.pop("optimizers"), "'optimizers' is missing"),
    "a phase is missing": (lambda t, n: n["optimizers"].clear(), "'student' is missing"),
    "a rate is missing": (lambda t, n: n["optimizers"]["student"][0].pop("initial_lr"), "'initial_lr' is missing"),
    "a rate is text": (lambda t, n: n["optimizers"]["student"][0].update(lr="0.1"), "numbers are"),
    "groups are a number": (lambda t, n: n["optimizers"].update(student=5), "not iterable"),
    "moments are missing": (lambda t, n: n.pop("moments"), "'moments' is missing"),
    "moments are a list": (lambda t, n: n.update(moments=[1]), "does not fit this training"),
    "the list is missing": (lambda t, n: n.pop("tensors"), "'tensors' is missing"),
    "numbers are a list": (lambda t, n: [n.clear(), n.update({"k": 4, "optimizers": []})], "does not fit"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_does_not_fit_is_one_line_and_the_state_is_untouched(planned, name):
    spoil, says = SPOILT[name]
    made, state = started(planned, steps=2), started(planned, steps=1)
    tensors, numbers = dict(made.tensors()), json.loads(json.dumps(made.numbers()))
    spoil(tensors, numbers)
    before, words = copies(state), state.numbers()
    with pytest.raises(CheckpointError, match=says) as caught:
        state.restore(tensors, numbers, "step-2")
    assert str(caught.value).startswith("step-2: ") and "\n" not in str(caught.value)
    assert same(before, state.tensors()) and words == state.numbers()


OLD = Path(__file__).parents[1] / "fixtures" / "run-format-1"


@pytest.mark.parametrize("name", [n for n in SPOILT if "weight" in n or "average" in n or "moment " in n or "all" in n])
def test_a_checkpoint_of_format_1_that_does_not_fit_is_one_line(name):
    recipe = ["network.model_channels=4", "network.num_blocks=1", "train.batch_size=16", "train.steps=40"]
    state = started(planning.plan(genkit.load_recipe("ict_digits", recipe), Path("out"), "cpu"))
    tensors, numbers = checkpoint.load(OLD / "checkpoints" / "step-0000020")
    state.restore(tensors, numbers)
    assert state.k == 20 and same(state.tensors(), tensors)
    SPOILT[name][0](tensors, numbers)
    with pytest.raises(CheckpointError, match="does not fit|holds NaN") as caught:
        state.restore(tensors, numbers)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["a weight is cast", "an average is missing", "an average is infinite", "a weight is NaN"]
)
def test_what_does_not_fit_is_not_sampled_and_nothing_starts_from_it(tmp_path, name):
    spoil, says = SPOILT[name]
    folder = Path(shutil.copytree(OLD, tmp_path / "old"))
    tensors, numbers = checkpoint.load(folder / "checkpoints" / "step-0000040")
    spoil(tensors, numbers)
    path = checkpoint.save(folder / "checkpoints", 40, tensors, numbers)
    with pytest.raises(CheckpointError, match=says) as caught:
        models.load(folder)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    recipe = genkit.load_recipe("ict_digits", [*SMALL, f"init.from={folder}"])
    with pytest.raises((CheckpointError, DataError), match=says):
        planning.plan(recipe, Path("out"), "cpu").program()
