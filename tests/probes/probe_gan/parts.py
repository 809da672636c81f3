from __future__ import annotations

import attrs
import torch
import torch.nn.functional as F
from torch import nn

from genkit import build
from genkit.denoiser import Denoiser, Loss, Program, Scalings
from genkit.kinds import slot


@attrs.frozen(kw_only=True)
class Plain:
    """The network's output as it is."""

    def build(self, context):
        return lambda sigma, to=None: Scalings(0 * sigma, 0 * sigma + 1, 0 * sigma + 1, 0 * sigma)


@attrs.frozen(kw_only=True)
class Generator:
    """One call on noise."""

    needs = "generator"

    def build(self, context):
        return self

    def nfe(self, steps):
        return 1

    def __call__(self, denoiser, draw, cond, steps):
        return denoiser(draw(0), torch.ones(len(draw(0))), cond)


@attrs.frozen(kw_only=True)
class Gan:
    """Non-saturating GAN with a gradient penalty on data."""

    predicts = "generator"
    network = slot("network", "mlp")
    parameterization = slot("parameterization", "plain")
    sampler = slot("sampler", "generator", identity=False)

    def build(self, context):
        return GanProgram(self, context)


class GanProgram(Program):
    def __init__(self, settings, context):
        super().__init__()
        parts = (build(p, context) for p in (settings.network, settings.parameterization))
        self.student = Denoiser(*parts, context.spec, build(settings.sampler, context))
        size = context.spec.size
        self.critic = nn.Sequential(
            nn.Flatten(), nn.Linear(size, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)
        )

    def groups(self):
        return {
            "critic": list(self.critic.named_parameters("critic")),
            "generator": list(self.student.named_parameters("student")),
        }

    def forward(self, batch, k, key):
        fake = self.student(key.normal("eps", batch.x), torch.ones(len(batch.x)), batch.cond)
        if key.phase == "generator":
            return Loss(F.softplus(-self.critic(fake)).squeeze(1))
        real = batch.x.requires_grad_()
        on_real = self.critic(real)
        (slope,) = torch.autograd.grad(on_real.sum(), real, create_graph=True)
        penalty = slope.flatten(1).square().sum(1)
        return Loss((F.softplus(self.critic(fake.detach())) + F.softplus(-on_real)).squeeze(1) + 0.5 * penalty)
