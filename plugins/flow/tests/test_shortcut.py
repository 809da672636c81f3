"""Shortcut models against closed forms."""

import pytest
import torch

import genkit
from genkit.denoiser import Denoiser
from genkit.errors import RecipeError
from genkit.keys import Key
from genkit.kinds import Batch
from genkit.levels import expand
from genkit_flow.parameterization import FlowScalings
from genkit_flow.shortcut import halvings

SPEC = genkit.Spec(channels=1, height=4, width=4, classes=3)
CONTEXT = genkit.Context(spec=SPEC, total_steps=100)
SMALL = {"use": "unet", "model_channels": 8, "num_blocks": 1, "channel_mult": [1]}


def program(**slots):
    made = genkit.build(genkit.component("objective", "shortcut", network=SMALL, **slots), CONTEXT)
    torch.manual_seed(0)
    for p in made.student.parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=0.2)
    return made.train()


def batch(count=16):
    x = torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return Batch(x, {"label": torch.arange(count) % 3})


class Told(torch.nn.Module):
    """The exact average velocity, told how often the way is halved."""

    def __init__(self, gaussian):
        super().__init__()
        self.exact = gaussian

    def forward(self, z, c_noise, cond):
        t, count = c_noise.unbind(1)
        return self.exact.average_velocity(z, t, t - 2**-count)


def test_with_the_exact_velocity_two_halves_come_to_the_whole(gaussian):
    made = program(clip=100.0)
    made.slow.network = Told(gaussian)
    z, t = torch.randn(5, 1, 4, 4, dtype=torch.float64), torch.tensor([1.0, 1, 0.5, 0.75, 1 / 64]).double()
    d = torch.tensor([1, 0.5, 0.25, 0.125, 1 / 64]).double()
    assert torch.allclose(made.two_halves(z, t, d / 2, {}, Key(0)), gaussian.average_velocity(z, t, t - d), rtol=1e-9)


def test_a_jump_of_the_model_is_told_its_length(gaussian):
    g = Denoiser(Told(gaussian), FlowScalings(told=halvings))
    x, sigma, to = torch.randn(2, 1, 4, 4).double(), torch.tensor([7.0, 1.0]).double(), torch.tensor([1.0, 0]).double()
    assert torch.allclose(g(x, sigma, {}, to), gaussian.jump(x, sigma, to), rtol=1e-9)
    assert halvings(sigma, torch.tensor([1.0, 0.125])).tolist() == [[7.0, 0.0], [1.0, 3.0]]
    assert torch.isfinite(g(x, sigma, {}, sigma)).all()


def test_states_and_targets_of_half_steps_are_clipped():
    made, states = program(clip=0.5), []
    made.slow.network.register_forward_pre_hook(lambda _, given: states.append(given[0]))
    z, t = 9 * batch().x, torch.ones(16)
    target = made.two_halves(z, t, t / 4, {}, Key(0))
    assert target.abs().max() <= 0.5 and torch.equal(states[0], z) and states[1].abs().max() <= 0.5
    assert not torch.equal(states[1], z)


def test_steps_are_powers_of_two_and_start_at_multiples_of_their_length():
    halved = torch.arange(70_000) % 2 == 0
    t, d = program().steps(halved, torch.device("cpu"), Key(0))
    assert (d[~halved] == 1 / 128).all() and torch.equal(t / d, (t / d).round())
    assert (t >= d).all() and (t <= 1).all() and t[~halved].max() == 1 and t[~halved].min() == 1 / 128
    lengths, counts = d[halved].unique(return_counts=True)
    assert lengths.tolist() == [2.0**-i for i in range(6, -1, -1)]
    assert (counts / halved.sum()).tolist() == pytest.approx([1 / 7] * 7, abs=0.01)


def test_every_eighth_sample_learns_from_half_steps_and_the_others_from_data():
    made, key, given = program(loss="l2"), Key(0, 3), batch()
    halved = torch.arange(16) % 8 == 0
    t, d = made.steps(halved, torch.device("cpu"), key)
    v = key.normal("eps", given.x) - given.x
    z = given.x + expand(t, v) * v
    u = made.student.network(z, torch.stack([t, -d.log2()], 1), given.cond)
    target = v.clone()
    rows = {"label": given.cond["label"][halved]}
    target[halved] = made.two_halves(z[halved], t[halved], d[halved] / 2, rows, key)
    exact = (u - target).square().flatten(1).mean(1)
    assert torch.allclose(made(given, 3, key).values, exact, rtol=1e-5)


@pytest.mark.parametrize(("start", "stop", "rank"), [(0, 3, 0), (3, 6, 0), (8, 16, 0), (9, 12, 0), (0, 16, 1)])
def test_which_samples_those_are_does_not_depend_on_how_the_batch_is_cut(monkeypatch, start, stop, rank):
    made, asked = program(), []
    monkeypatch.setattr(
        made, "steps", lambda halved, *given: asked.append(halved) or type(made).steps(made, halved, *given)
    )
    key = Key(0, 3, rank, world=rank + 1).part(0, start, stop, 16)
    values = made(batch().rows(start, stop), 3, key).values
    assert torch.equal(asked[0], torch.arange(start, stop) % 8 == 0)
    if rank == 0:
        whole = made(batch(), 3, Key(0, 3)).values
        assert torch.allclose(values, whole[start:stop], rtol=1e-4)


def test_half_steps_are_taken_with_an_average_of_the_weights():
    made = program(decay=0.9)
    made.started()
    for old, new in zip(made.slow.parameters(), made.student.parameters(), strict=True):
        assert torch.equal(old, new) and not old.requires_grad
    before = [p.clone() for p in made.slow.parameters()]
    with torch.no_grad():
        for p in made.student.parameters():
            p.add_(1.0)
    made.after_step(0)
    for p, old in zip(made.slow.parameters(), before, strict=True):
        assert torch.allclose(p, old + 0.1, atol=1e-6)
    assert {name for name, _ in made.groups()["student"]} == {n for n, _ in made.named_parameters() if "slow" not in n}


def test_a_finest_step_that_is_no_power_of_two_is_refused():
    with pytest.raises(RecipeError, match="finest"):
        program(finest=100)
