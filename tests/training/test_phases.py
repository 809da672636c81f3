"""Phases of a program act or rest as it says, with rates of their own, and go on bit for bit from any step."""

from pathlib import Path

import attrs
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import genkit
from genkit.denoiser import Denoiser, Loss, Program, Scalings
from genkit.training import checkpoint
from genkit.training.state import State
from genkit.training.step import train

STEPS = 9
SETTINGS = {"steps": STEPS, "batch_size": 16}


class Net(nn.Module):
    """A body that is trained at every third step, and a head at every one; a frozen weight and a buffer beside them."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(2, 4), nn.Linear(4, 2)
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x, c_noise, cond):
        self.seen += 1
        return self.frozen * self.head(torch.tanh(self.body(x.flatten(1)))).reshape(x.shape)


class Three(Program):
    """A student in two phases and a critic, which is first trained at step 4."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.student = Denoiser(
                Net(), lambda sigma, to=None: Scalings(0 * sigma, 1 + 0 * sigma, 1 + 0 * sigma, sigma)
            )
            self.critic = nn.Linear(2, 1)

    def groups(self):
        parts = {"critic": self.critic, "body": self.student.network.body, "head": self.student.network.head}
        return {phase: list(part.named_parameters(phase)) for phase, part in parts.items()}

    def acts(self, phase, k):
        return {"critic": k >= 4, "body": k % 3 == 2, "head": True}[phase]

    def forward(self, batch, k, key):
        assert self.acts(key.phase, k)
        fake = self.student(key.normal("eps", batch.x), torch.ones(len(batch.x)))
        if key.phase == "critic":
            return Loss((F.softplus(self.critic(fake.flatten(1))) - self.critic(batch.x.flatten(1))).squeeze(1))
        return Loss((fake - batch.x).flatten(1).square().mean(1) - self.critic(fake.flatten(1)).squeeze(1))


@attrs.frozen
class Rates:
    """AdamW, or plain descent, which pulls matrices towards zero and has ten times the rate for all else."""

    plain: bool = False

    def optimizer(self, params):
        matrices, rest = ([p for _, p in params if (p.dim() > 1) == wanted] for wanted in (True, False))
        groups = [{"params": rest, "lr": 0.1, "weight_decay": 0.0}, {"params": matrices, "weight_decay": 0.2}]
        return (torch.optim.SGD if self.plain else torch.optim.AdamW)(groups, lr=0.01)

    def lr_scale(self, k, total_steps):
        return 1 - k / total_steps


class Half:
    """An average that goes half of the way."""

    def beta(self, k, batch_size):
        return 0.5


@pytest.fixture(scope="module")
def data():
    return genkit.build(genkit.component("dataset", "ring"), genkit.Setup())


def begun(rule=None):
    return State.of(Three(), rule or Rates(), Half())


def copies(state):
    return {name: t.clone() for name, t in state.tensors().items()}


def phase_of(name):
    return next((phase for phase in ("critic", "body", "head") if phase in name.split("/", 1)[1]), "")


def test_what_rests_stays_to_the_bit_and_what_acts_moves_with_its_moments_and_its_average(data):
    state = begun()
    before = copies(state)
    for k, _ in enumerate(train(state, data, **SETTINGS)):
        after = copies(state)
        for name, value in after.items():
            phase = phase_of(name)
            if phase and not state.program.acts(phase, k):
                assert name in before and torch.equal(value, before[name]), (k, name)
            elif phase:
                assert name not in before or not torch.equal(value, before[name]), (k, name)
        assert not torch.equal(after["ema/seen"], before["ema/seen"]) and after["ema/frozen"] == 1
        before = after
    assert {name.split("/")[1] for name in before if name.startswith("optimizer/")} == {"critic", "body", "head"}
    ages = {phase: before[f"optimizer/{phase}/{phase}.weight/step"].item() for phase in ("critic", "body", "head")}
    assert ages == {"critic": 5, "body": 3, "head": 9}


@pytest.mark.parametrize("k", range(1, STEPS))
@pytest.mark.parametrize("name", ["of two groups", "radam"])  # which counts steps on the host as well
def test_a_program_whose_phases_rest_goes_on_bit_for_bit(data, tmp_path, name, k):
    rule = Rates() if name == "of two groups" else genkit.component("optimizer", name, lr=0.01, clip=1.0)
    whole, half, again = begun(rule), begun(rule), begun(rule)
    for _ in train(whole, data, **SETTINGS):
        pass
    for _ in zip(range(k), train(half, data, **SETTINGS), strict=False):
        pass
    checkpoint.save(Path(tmp_path), half.k, copies(half), half.numbers())
    again.restore(*checkpoint.load(tmp_path / f"step-{half.k:07d}"))
    for _ in train(again, data, **SETTINGS):
        pass
    assert half.k == k and again.tensors().keys() == whole.tensors().keys()
    assert all(torch.equal(t, whole.tensors()[name]) for name, t in again.tensors().items())


def test_each_parameter_group_has_its_own_rate_and_decay_times_the_scale_of_the_step(data):
    state = begun(Rates(plain=True))
    before = copies(state)
    for k, _ in enumerate(train(state, data, **SETTINGS)):
        scale, after = 1 - k / STEPS, copies(state)
        for name, p in state.program.groups()["head"]:  # the last phase, whose gradients are still there
            rate, decay = (0.01, 0.2) if p.dim() > 1 else (0.1, 0.0)
            old = before[f"program/student.network.{name}"]
            assert torch.allclose(p.detach(), old - rate * scale * (p.grad + decay * old), atol=1e-7), (k, name)
        before = after


def test_figures_of_a_phase_that_rests_are_those_of_its_last_turn(data):
    seen = [{name: float(value) for name, value in figures.items()} for figures in train(begun(), data, **SETTINGS)]
    assert [sorted(figures) for figures in seen[:5:2]] == [
        ["loss_head"],
        ["loss_body", "loss_head"],
        ["loss_body", "loss_critic", "loss_head"],
    ]
    bodies = [figures.get("loss_body") for figures in seen]
    assert bodies[2:5] == 3 * [bodies[2]] and bodies[5] != bodies[4]
    assert len({figures["loss_head"] for figures in seen}) == STEPS


def test_a_weight_of_two_phases_moves_its_average_while_one_of_them_acts(data):
    class Shared(Three):
        def groups(self):
            parts = super().groups()
            return {"body": parts["body"] + parts["head"], "head": parts["head"]}

    state = State.of(Shared(), Rates(), Half())
    before = copies(state)
    next(train(state, data, **SETTINGS))
    after = copies(state)
    assert not torch.equal(after["ema/head.weight"], before["ema/head.weight"])
    assert torch.equal(after["ema/body.weight"], before["ema/body.weight"])
