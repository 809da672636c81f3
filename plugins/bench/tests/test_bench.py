"""What is measured of a step: closed forms where there are some, and the bits of training, which watching leaves."""

import itertools
import json
import math
import random

import pytest
import torch

import genkit
from genkit import load_recipe
from genkit.cli import main
from genkit.runs import planning
from genkit.training.step import train
from genkit_bench import chips, measuring, memory, pairing, parts, passes


def plan(name="ict_ring", *overrides):
    return planning.plan(load_recipe(name, ["train.steps=50", *overrides]), device="cpu")


def made(planned, state):
    """The passes of a step."""
    with passes.recorded() as found:
        next(train(state, planned.data, planned.recipe.train))
    return found


def command(words):
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 0


# ---- intervals -----------------------------------------------------------------------------------


def test_an_interval_of_ten_is_from_the_second_to_the_ninth_and_of_twenty_from_the_sixth():
    assert pairing.interval(list(range(1, 11))) == (5.5, 2, 9)  # 2 P(Bin(10, 1/2) < 2) = 22/1024; for 3 it is 11%
    assert pairing.interval(list(range(1, 21)))[1:] == (6, 15)  # as tables of the sign test have it


def test_five_values_make_no_interval_and_six_do():
    assert pairing.interval([1.0] * (pairing.LEAST - 1)) == (1.0, None, None)
    assert pairing.interval([3, 1, 2, 6, 5, 4]) == (3.5, 1, 6)


def test_an_interval_holds_the_median_of_any_law_in_95_of_100_cases():
    rng, held = random.Random(0), 0
    for _ in range(2000):
        _, low, high = pairing.interval([rng.expovariate(1.0) for _ in range(12)])
        held += low <= math.log(2) <= high
    assert 0.95 <= held / 2000 <= 0.975  # 96.1% for 12 values


def test_sides_take_turns_in_both_orders():
    order, ticks = [], itertools.count()
    sides = {name: lambda name=name: order.append(name) for name in ("a", "b")}
    times = pairing.in_turn(sides, rounds=2, each=2, clock=lambda: next(ticks))
    assert order == ["b", "b", "a", "a", "a", "a", "b", "b"]
    assert times == [{"a": 0.5, "b": 0.5}] * 2  # two calls in one tick


# ---- the floor -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "overrides", "kinds"),
    [
        ("ict_ring", (), "gtb"),
        ("ict_ring", ("train.micro_batch=64", "train.batch_size=128"), "gtbgtb"),
        ("edm_digits", (), "gb"),
        ("meanflow_digits", ("train.batch_size=8",), "jb"),
    ],
)
def test_the_floor_makes_the_passes_of_the_step(name, overrides, kinds):
    planned = plan(name, *overrides)
    state = planned.state()
    found = made(planned, state)
    told = ["b" if one is None else "j" if one.forward_mode else "g" if one.graded else "t" for one in found]
    assert "".join(told) == kinds
    with passes.recorded() as again:
        passes.replay(state.program, found, compiled=False)()
    asked = [(one.network, one.x.shape, one.graded, one.forward_mode) for one in again if one]
    assert asked == [(one.network, one.x.shape, one.graded, one.forward_mode) for one in found if one]


def test_the_floor_has_the_inputs_of_the_step_and_gives_gradients():
    planned = plan()
    state = planned.state()
    asked = []
    handle = state.program.student.network.register_forward_pre_hook(
        lambda module, given: asked.append(given[0].clone())
    )
    found = made(planned, state)
    handle.remove()
    torch.testing.assert_close([one.x.detach() for one in found if one], asked, rtol=0, atol=0)
    state.program.zero_grad()
    passes.replay(state.program, found, compiled=False)()
    assert all(p.grad is not None for p in state.program.student.network.parameters())


def test_bf16_is_that_of_the_floor_too():
    planned = plan("ict_ring", "train.precision=bf16")
    assert {one.autocast for one in made(planned, planned.state()) if one} == {torch.bfloat16}


# ---- watching changes nothing --------------------------------------------------------------------


@pytest.mark.parametrize("watched", ["recorded", "parts"])
def test_steps_that_are_watched_come_to_the_same_bits(watched):
    planned = plan("ict_digits", "train.batch_size=4")
    plain, seen = planned.state(), planned.state()
    for _ in range(3):
        next(train(plain, planned.data, planned.recipe.train))
    if watched == "recorded":
        for _ in range(3):
            made(planned, seen)
    else:
        with parts.told(parts.Parts("cpu"), seen, compiled=False):
            for _ in range(3):
                next(train(seen, planned.data, planned.recipe.train))
    assert all(torch.equal(a, seen.tensors()[name]) for name, a in plain.tensors().items())
    assert not torch.nn.modules.module._global_forward_pre_hooks


# ---- parts ---------------------------------------------------------------------------------------


def test_parts_leave_out_what_is_within_them_and_sum_to_the_whole(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(parts.time, "perf_counter", lambda: float(next(ticks)))
    told = parts.Parts("cpu")
    with told.part("loss"), told.part("forward"):  # 0 to 1 and 2 to 3, and between them 1 to 2
        pass
    with told.part("backward"):  # from 4 to 5; from 3 to 4 nothing was open
        pass
    found = told.seconds()
    assert (found["loss"], found["forward"], found["backward"]) == (2, 1, 1)
    assert sum(found.values()) == 4


def test_every_part_of_a_step_is_seen_and_those_that_it_lacks_are_zero():
    both = measuring.Bench.of(plan()).split(2)
    assert all(both[name] > 0 for name in parts.ABOUT)
    alone = measuring.Bench.of(plan("edm_digits", "train.batch_size=4")).split(2)
    assert alone["teacher"] == 0 < alone["forward"]


# ---- figures -------------------------------------------------------------------------------------


def test_flops_of_a_linear_network_are_those_on_paper():
    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)

        def forward(self, x, c, cond):
            return self.layer(x.flatten(1)).view_as(x)

    planned = plan("ict_ring", "train.batch_size=16")
    program = planned.program()
    program.student.network = network = Linear()
    program.student._call = network.__call__
    real = type(planned).program
    try:
        type(planned).program = lambda self: program
        found = measuring.measure(planned, steps=1)
    finally:
        type(planned).program = real
    one = 2 * 2 * 2  # a multiplication and an addition for each of 2 x 2 weights
    assert found["flops_per_image"] == 3 * one  # student, teacher, weights; inputs need no gradient
    assert found["parameters"] == 6
    assert found["bytes_per_parameter"] == pytest.approx(20 + 4 * 2 / 6)  # a count of steps for each of two tensors
    rate = found["batch_size"] / found["seconds"]["step"]
    assert found["images_per_second"] == pytest.approx(rate)
    assert found["hours"][1] == pytest.approx(50 * 16 / rate / 3600)
    assert found["hours"][64] == pytest.approx(found["hours"][1] / 64)
    assert found["peak"] is found["share_of_peak"] is found["kwh"] is None


def test_memory_is_the_most_at_a_time():
    def call():
        a = torch.empty(1000, dtype=torch.float64)
        del a
        b = torch.empty(500, dtype=torch.float64)
        return b

    assert 8000 <= memory.taken(call) < 9000


def test_a_chip_is_known_by_the_whole_of_its_name():
    assert chips.peak("NVIDIA H100 80GB HBM3", "bf16") == 989.4e12
    assert chips.peak("NVIDIA A100-SXM4-80GB", "tf32") == 156e12
    assert chips.peak("NVIDIA A100-SXM4-80GB", "float32") == 19.5e12
    assert chips.peak("NVIDIA L40S", "bf16") != chips.peak("NVIDIA L4", "bf16")
    assert chips.peak("NVIDIA L400", "bf16") is None
    assert chips.peak("cpu", "bf16") is None


@pytest.mark.parametrize(
    ("took", "told"),
    [
        ([4.0, 0.9, 0.2, 0.4, 9.0], 0.3),  # what is over half a second is enough
        ([6.0, 9.0], 6.0),
        ([3.0, 2.5, 9.0], 2.5),
    ],
)
def test_a_quick_estimate_leaves_out_the_first_steps(monkeypatch, took, told):
    given = iter(took)
    monkeypatch.setattr(measuring.pairing, "in_turn", lambda *_: [{"step": next(given)}])
    assert measuring.step_seconds(plan()) == pytest.approx(told)


def test_a_dry_run_and_the_plan_of_a_study_tell_it(monkeypatch, capsys):
    from genkit_studies import estimate

    monkeypatch.setattr(measuring, "step_seconds", lambda planned: 72.0)
    command(["run", "ict_ring", "train.steps=50", "evaluate.samples=100", "--dry-run", "--json"])
    assert json.loads(capsys.readouterr().out)["time"] == "about 1:00:00, 7.2e+04 ms a step"
    monkeypatch.setattr(estimate, "_evaluation_seconds", lambda planned, denoiser: 5.0)
    recipe = load_recipe("ict_ring", ["train.steps=50"])
    assert estimate.estimate(recipe, "cpu").items() >= {"seconds": 3605.0, "step": 72.0, "evaluation": 5.0}.items()


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_tells_a_table_or_json_and_writes_a_trace(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command(["bench", "ict_ring", "train.batch_size=16", "--steps", "6", "--watts", "100", "--json"])
    found = json.loads(capfd.readouterr().out)
    assert found["ratio"]["low"] <= found["ratio"]["median"] <= found["ratio"]["high"]
    assert found["kwh"] == pytest.approx(0.1 * found["hours"]["1"])
    command(["bench", "ict_ring", "--steps", "2", "--profile", "trace.json"])
    told, said = capfd.readouterr()
    assert [line for line in said.splitlines() if not line.startswith(("note: ", "trace "))] == []
    assert "step / floor" in told
    assert "no published peak is on record for cpu" in told
    assert "an interval needs 6 rounds" in told
    names = {event.get("name") for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert {"data", "forward", "teacher", "backward", "optimizer", "average"} <= names
    assert not (tmp_path / "runs").exists()


def test_a_trace_without_a_folder_is_refused_before_anything_is_measured():
    with pytest.raises(SystemExit) as left:
        main(["bench", "ict_ring", "--profile", "nowhere/trace.json"])
    assert left.value.code == genkit.errors.RecipeError.exit_code
