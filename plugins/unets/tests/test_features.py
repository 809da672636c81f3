"""Claims about what networks tell from their middle: a critic learns by it, and what it looks through stays frozen."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import genkit
from genkit.denoiser import Denoiser, Loss, Program
from genkit.errors import RecipeError
from genkit.kinds import Context, Setup

CONTEXT = Context(spec=genkit.build(genkit.component("dataset", "digits"), Setup()).spec, total_steps=60)
SMALL = {"model_channels": 8, "channel_mult": (1, 2), "num_blocks": 2, "attn_resolutions": (4,)}
NETWORKS = {"unet": SMALL, "ncsnpp": SMALL, "adm": {**SMALL, "channels_per_head": 8}, "mlp": {"width": 16, "depth": 2}}


def denoiser(name, **settings):
    network = genkit.build(genkit.component("network", name, **settings), CONTEXT)
    return Denoiser(network, genkit.build(genkit.component("parameterization", "edm"), CONTEXT), CONTEXT.spec)


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_what_the_plain_call_has_on_its_way(name):
    made, seen = denoiser(name, **NETWORKS[name]).eval(), []
    for module in made.modules():
        module.register_forward_hook(lambda _, given, out: seen.append(out))
    x, sigma = torch.randn(2, 1, 8, 8), torch.tensor([0.5, 5.0])
    made(x, sigma)
    plain = [out.flatten(1) for out in seen]
    maps = made.features(x, sigma)
    sides = {"mlp": [1, 1]}.get(name, [8, 4, 4])
    assert [m.shape[-1] for m in maps] == sides
    among = [any(torch.equal(m.flatten(1), out) for out in plain) for m in maps]
    assert all(among) or name == "mlp"  # which adds between its layers
    assert torch.equal(maps[-1], made.features(x, sigma, {})[-1])


def test_a_network_without_them_is_one_line():
    with pytest.raises(RecipeError, match="ConstantModule tells no features"):
        denoiser("constant").features(torch.zeros(1, 1, 8, 8), torch.ones(1))


class Adversarial(Program):
    """A generator that is to please a critic, whose head sees digits through a frozen network's features."""

    def __init__(self):
        super().__init__()
        self.student, frozen = denoiser("unet", **SMALL), denoiser("unet", **SMALL)
        self.frozen = frozen.eval().requires_grad_(False)
        self.head = nn.Linear(8 + 16 + 16, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # it calls nothing right at first

    def groups(self):
        return {
            "critic": list(self.head.named_parameters("head")),
            "generator": list(self.student.named_parameters("student")),
        }

    def judged(self, x):
        maps = self.frozen.features(x, torch.full((len(x),), 0.5))
        return self.head(torch.cat([m.mean((2, 3)) for m in maps], 1))[:, 0]

    def forward(self, batch, k, key):
        z, top = key.normal("eps", batch.x), torch.full((len(batch.x),), 80.0)
        fake = self.student(80.0 * z, top)
        if key.phase == "generator":
            return Loss(F.softplus(-self.judged(fake)))
        real, false = self.judged(batch.x), self.judged(fake.detach())
        right = ((real > 0).float() + (false < 0).float()).mean() / 2
        return Loss(F.softplus(-real) + F.softplus(false), {"right": right.detach()})


def test_a_critic_learns_by_the_features_of_a_frozen_network_and_teaches_a_generator():
    program = Adversarial()
    before = copy.deepcopy(program.frozen.state_dict())
    adam, ema = genkit.component("optimizer", "adam", lr=0.02), genkit.component("ema", "constant")
    state = genkit.State.of(program, adam, ema)
    program.acts = lambda phase, k: phase == "critic" or k == 40  # the generator only once
    data = genkit.build(genkit.component("dataset", "digits"), Setup())
    generator = [p.detach().clone() for p in program.student.parameters()]
    right = [float(figures["right"]) for figures in genkit.train(state, data, steps=42, batch_size=32)]
    assert right[40] > 0.95 and right[40] > right[0]
    assert all(torch.equal(t, before[name]) for name, t in program.frozen.state_dict().items())
    assert any(not torch.equal(p, q) for p, q in zip(program.student.parameters(), generator, strict=True))
