"""Three processes as one: weights that differ in which steps, and which samples, they have a gradient for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import genkit
from genkit.denoiser import Denoiser, Loss, Program, Scalings
from genkit.training import checkpoint, processes
from genkit.training.state import State
from genkit.training.step import train
from genkit.training.watching import WATCH

STEPS, LATE = 6, 4
SETTINGS = {"steps": STEPS, "batch_size": 24, "micro_batch": 4}
WIDE = 600  # so that weights fill several of torch's buckets, the first of which is 1 MiB


class Net(nn.Module):
    """A wide layer between two small ones, and a buffer that each process has for itself."""

    def __init__(self):
        super().__init__()
        self.first, self.wide, self.last = nn.Linear(2, WIDE), nn.Linear(WIDE, WIDE), nn.Linear(WIDE, 2)
        self.register_buffer("rank", torch.zeros(1))

    def forward(self, x, c_noise, cond):
        return self.last(torch.tanh(self.wide(torch.tanh(self.first(x.flatten(1)))))).reshape(x.shape)


class Odd(Program):
    """Beside the student: weights that are never used, from step `LATE` on, and for the first sample alone."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            scalings = lambda sigma, to=None: Scalings(0 * sigma, 1 + 0 * sigma, 1 + 0 * sigma, sigma)  # noqa: E731
            self.student = Denoiser(Net(), scalings)
            self.never, self.late, self.first = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, batch, k, key):
        eps = key.normal("eps", batch.x)
        values = (self.student(eps, torch.ones(len(eps))) - batch.x).flatten(1).square().mean(1)
        if k >= LATE:
            values = values + self.late(eps.flatten(1)).square().mean(1)
        if key.rank == 0 and key.rows.start == 0:
            mine = self.first(eps[:1].flatten(1)).square().mean(1)
            values = values + torch.cat([mine, torch.zeros(len(eps) - 1)])
        return Loss(values)


def begun():
    state = State.of(Odd(), genkit.component("optimizer", "adam", lr=1e-3), genkit.component("ema", "constant"))
    state.program.student.network.rank += processes.rank()
    return state


def trained(state, steps=STEPS):
    """Its tensors after some steps, and which of its weights had a gradient in each of them."""
    data, given = genkit.build(genkit.component("dataset", "ring"), genkit.Setup()), []
    for _ in zip(range(steps - state.k), train(state, data, **SETTINGS), strict=False):
        given.append({name.split(".")[0] for name, p in state.program.named_parameters() if p.grad is not None})
    return {name: t.clone() for name, t in state.tensors().items()}, given


def close(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert name.endswith("rank") or torch.allclose(tensor, other[name], rtol=1e-4, atol=1e-5), name


def one_of_three():
    """What each process does: the whole run, and again one that is saved in its middle and resumed."""
    processes.start("cpu")
    before = WATCH.meetings
    whole, given = trained(begun())
    meetings = WATCH.meetings - before
    half, again = begun(), begun()
    kept, _ = trained(half, 3)
    if processes.rank() == 0:
        checkpoint.save(Path("three"), 3, kept, half.numbers())
    processes.gather(None)
    again.restore(*checkpoint.load(Path("three/step-0000003")))
    again.program.student.network.rank.fill_(processes.rank())
    torch.save((whole, trained(again)[0], given, meetings), f"found-{processes.rank()}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Of three processes each: tensors, those of the resumed run, what had gradients, meetings; and the folder."""
    folder = tmp_path_factory.mktemp("run")
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_processes as t; t.one_of_three()"
    )
    command = [*"-m torch.distributed.run --standalone --nproc-per-node=3 --no-python".split(), sys.executable]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    given = {"cwd": folder, "env": env, "timeout": 240, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, *command, "-c", code], check=False, **given)
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr  # torch warns of what is meant so
    return [torch.load(folder / f"found-{rank}.pt", weights_only=True) for rank in range(3)], folder


@pytest.fixture(scope="module")
def alone():
    return trained(begun())


def test_three_processes_have_the_same_weights_and_up_to_rounding_those_of_one(found, alone):
    for rank, (whole, *_) in enumerate(found[0]):
        assert whole["program/student.network.rank"] == rank  # nobody's buffers are sent about
        assert all(torch.equal(t, found[0][0][0][name]) for name, t in whole.items() if not name.endswith("rank"))
        close(whole, alone[0])


def test_a_weight_has_a_gradient_if_it_has_one_on_any_process(found, alone):
    assert alone[1] == LATE * [{"student", "first"}] + (STEPS - LATE) * [{"student", "first", "late"}]
    assert [given for _, _, given, _ in found[0]] == 3 * [alone[1]]


def test_processes_meet_once_a_step_for_each_bucket_however_batches_are_cut(found):
    assert [meetings for *_, meetings in found[0]] == 3 * [2 * STEPS]


def test_three_processes_that_are_resumed_come_to_the_same_bits(found):
    for whole, resumed, *_ in found[0]:
        assert all(torch.equal(t, whole[name]) for name, t in resumed.items() if name != "ema/rank")


def test_a_checkpoint_is_the_same_from_three_processes_and_one_goes_on_from_it(found, alone):
    one, three = begun(), checkpoint.load(found[1] / "three/step-0000003")
    before, _ = trained(one, 3)
    assert three[1] == one.numbers()
    close(three[0], before)
    one.restore(*three)
    close(trained(one)[0], alone[0])
