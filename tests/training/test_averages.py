"""Several averages: each by its own rule, restored to the bit, named where weights are; one costs what it did."""

import json
from pathlib import Path

import attrs
import pytest
import torch

import genkit
from genkit.errors import CheckpointError, RecipeError
from genkit.kernel.identity import identity
from genkit.kernel.loading import load_recipe
from genkit.runs import models, planning
from genkit.training import checkpoint
from genkit.training.step import train

SMALL = ["network.width=8", "train.batch_size=8", "train.steps=9", "train.save_every_steps=3"]
TWO = ["averages.slow.use=constant", "averages.slow.decay=0.9", "averages.fast.use=constant", "averages.fast.decay=0.5"]


def planned(*more):
    return planning.plan(load_recipe("ict_ring", [*SMALL, *more]), Path("out"), "cpu")


def stepped(plan, state, steps):
    taken = train(state, plan.data, plan.recipe.train)
    for _ in range(steps):
        next(taken)
        yield {name: t.detach().clone() for name, t in state.program.student.network.state_dict().items()}


def copies(state):
    return {name: t.clone() for name, t in state.tensors().items()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_each_average_follows_its_own_rule_and_changes_no_other():
    alone, plan = planned(), planned(*TWO)
    state, other = plan.state(), alone.state()
    assert set(state.averages) == {"ema", "slow", "fast"}
    wanted = {decay: dict(state.averages["slow"].weights) for decay in (0.9, 0.5)}
    wanted = {decay: {n: t.clone() for n, t in weights.items()} for decay, weights in wanted.items()}
    for weights in stepped(plan, state, 9):
        for decay, average in wanted.items():
            for name, t in average.items():
                t.lerp_(weights[name], 1 - decay)
    assert same(wanted[0.9], state.averages["slow"].weights) and same(wanted[0.5], state.averages["fast"].weights)
    list(stepped(alone, other, 9))
    assert same(other.tensors(), {n: t for n, t in state.tensors().items() if not n.startswith("averages/")})


def test_the_weights_of_each_are_lent_by_name():
    plan = planned(*TWO)
    state = plan.state()
    list(stepped(plan, state, 9))
    before = copies(state)
    for name in ("ema", "slow", "fast", "raw"):
        with state.sampled(name) as network:
            lent = {n: t.clone() for n, t in network.state_dict().items()}
        live = {n.removeprefix("student.network."): t for n, t in state.program.state_dict().items()}
        owed = live if name == "raw" else before_of(before, name)
        assert same(lent, {n: owed[n] for n in lent})
    assert same(before, state.tensors())
    with pytest.raises(KeyError):
        state.sampled("none")


def before_of(tensors, name):
    start = "ema/" if name == "ema" else f"averages/{name}/"
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def test_a_state_with_several_goes_on_to_the_bit(tmp_path):
    plan = planned(*TWO)
    whole, half, state = plan.state(), plan.state(), plan.state()
    list(stepped(plan, whole, 9))
    list(stepped(plan, half, 4))
    checkpoint.save(tmp_path, 4, copies(half), half.numbers())
    state.restore(*checkpoint.load(tmp_path / "step-0000004"))
    list(stepped(plan, state, 5))
    assert same(whole.tensors(), state.tensors())
    assert not same(state.averages["slow"].weights, state.averages["fast"].weights)


@pytest.mark.parametrize(
    ("kept", "asked", "says"),
    [
        ((), TWO, "'averages/slow/.*' is missing"),
        (TWO, (), "'averages/.*' is surplus"),
        (TWO, TWO[:2], "'averages/fast/.*' is surplus"),
    ],
)
def test_a_checkpoint_with_other_averages_is_one_line(kept, asked, says):
    made, state = planned(*kept).state(), planned(*asked).state()
    before = copies(state)
    with pytest.raises(CheckpointError, match=says) as caught:
        state.restore(dict(made.tensors()), json.loads(json.dumps(made.numbers())))
    assert "\n" not in str(caught.value) and same(before, state.tensors())


def test_an_average_that_is_not_finite_is_told():
    state = planned(*TWO).state()
    tensors = copies(state)
    name = next(n for n in tensors if n.startswith("averages/slow/") and n.endswith("weight"))
    tensors[name].view(-1)[0] = torch.nan
    with pytest.raises(CheckpointError, match=f"'{name}' holds NaN"):
        state.restore(tensors, state.numbers())


def test_one_average_costs_what_it_did_and_each_more_its_own_four_bytes():
    def kept(*more):
        plan = planned(*more)
        state = plan.state()
        list(stepped(plan, state, 1))
        held = sum(t.nbytes for t in state.tensors().values() if t.dim())
        return pytest.approx(held / sum(p.numel() for p in state.program.parameters()), rel=0.01)  # buffers are few

    assert (kept(), kept(*TWO[:2]), kept(*TWO)) == (16, 20, 24)  # weights, two moments, averages; gradients are 4 more


def test_the_id_has_them_and_stays_without_them():
    recipe = load_recipe("ict_ring", SMALL)
    alone = identity(recipe, "d")
    assert alone == identity(attrs.evolve(recipe, averages={}), "d")
    ids = [
        identity(load_recipe("ict_ring", [*SMALL, *TWO[:2], *more]), "d") for more in ((), ["averages.slow.decay=0.8"])
    ]
    renamed = load_recipe("ict_ring", [*SMALL, "averages.late.use=constant", "averages.late.decay=0.9"])
    assert len({alone, *ids, identity(renamed, "d")}) == 4
    assert identity(load_recipe("ict_ring", [*SMALL, *TWO[:2], "averages.slow=false"]), "d") == alone


def test_they_stand_in_the_recipe_as_it_is_written_out():
    recipe = load_recipe("ict_ring", [*SMALL, *TWO])
    Path("r.toml").write_text(recipe.toml())
    assert load_recipe("r.toml") == recipe and recipe.tree()["averages"]["slow"]["decay"] == 0.9


@pytest.mark.parametrize("name", ["ema", "raw", "a/b", ".x"])
def test_names_that_mean_something_else_are_refused(name):
    Path("r.toml").write_text(f'extends = "ict_ring"\n[averages."{name}"]\nuse = "constant"\n')
    with pytest.raises(RecipeError, match=r"r.toml:2 averages.*names no further average") as caught:
        load_recipe("r.toml")
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_there_are_told_with_those_that_are():
    with pytest.raises(RecipeError) as caught:
        load_recipe("ict_ring", [*TWO, "evaluate.weights=slo"])
    assert str(caught.value) == (
        "command line evaluate.weights: there are none named 'slo'; there are ema, fast, raw, slow"
    )


# ---- through the command line --------------------------------------------------------------------

RUN = ["ict_ring", *SMALL, *TWO, "evaluate.samples=300", "evaluate.steps=[1]", "evaluate.weights=slow"]


def test_a_run_is_evaluated_sampled_and_started_from_by_the_name_of_an_average(call):
    told = json.loads(call("run", *RUN, "name=first", "--json")[0])
    folder = Path(told["folder"])
    assert told["evaluation"]["protocol"]["weights"] == "slow"
    assert told["evaluation"]["made_with"]["averages"]["slow"] == {"use": "constant", "decay": 0.9, "warmup": False}
    tensors, _ = checkpoint.load(folder / "checkpoints" / "step-0000009")
    figures = {name: figure(call, folder, name) for name in ("ema", "raw", "slow", "fast")}
    assert len(set(figures.values())) == 4 and figures["slow"] == told["figures"]["fd.fd@1"]
    for name in ("ema", "slow", "fast"):
        assert same(before_of(tensors, name), models.load(folder, name).network.state_dict())
        assert f"-{name}.png" in call("sample", folder, "--weights", name, "--count", "4")[0]
    err = call("sample", folder, "--weights", "slo", code=2)[1]
    assert err == f"genkit: weights: {folder.name} has none named 'slo'; it has ema, fast, raw, slow\n"
    again = ["ict_ring", *SMALL, "init.from=first", "init.weights=fast"]
    program = planning.plan(load_recipe(*[again[0], again[1:]]), Path("out"), "cpu").program()
    assert same(before_of(tensors, "fast"), program.student.network.state_dict())
    ids = {planning.plan(load_recipe("ict_ring", [*again[1:-1], f"init.weights={n}"])).id for n in ("fast", "slow")}
    assert len(ids) == 2


def figure(call, folder, weights):
    return json.loads(call("evaluate", folder, "--weights", weights, "--json")[0])["steps"]["1"]["figures"]["fd.fd"]


def test_checkpoints_of_every_so_many_steps_stay(call):
    words = ["ict_ring", *SMALL, "train.save_every_steps=1", "train.keep_every_steps=4", "metrics.fd=false"]
    folder = Path(json.loads(call("run", *words, "--json")[0])["folder"]) / "checkpoints"
    assert [checkpoint.step_of(path) for path in checkpoint.present(folder)] == [4, 7, 8, 9]  # 7: the newest but one
    call("runs", "gc")
    assert [checkpoint.step_of(path) for path in checkpoint.present(folder)] == [4, 8, 9]


def test_they_are_saved_also_where_no_others_are(call):
    words = ["ict_ring", *SMALL, "train.save_every_steps=100", "train.keep_every_steps=4", "metrics.fd=false"]
    words += ["train.log_every_steps=100"]
    folder = Path(json.loads(call("run", *words, "--json")[0])["folder"]) / "checkpoints"
    assert [checkpoint.step_of(path) for path in checkpoint.present(folder)] == [4, 8, 9]


def test_a_notebook_names_them_too():
    data = genkit.build(genkit.component("dataset", "ring"), genkit.Setup())
    context = genkit.Context(spec=data.spec, total_steps=3)
    program = genkit.build(genkit.component("objective", "consistency", network="mlp"), context)
    slow = genkit.component("ema", "constant", decay=0.9)
    state = genkit.State.of(program, genkit.component("optimizer", "adam"), slow, {"slower": slow})
    list(genkit.train(state, data, steps=3, batch_size=8))
    with state.average.swapped(), state.sampled("raw"):
        pass
    assert same(state.average.weights, state.averages["slower"].weights)
