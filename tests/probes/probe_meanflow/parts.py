from __future__ import annotations

import attrs
import torch
from torch import nn

from genkit import build
from genkit.denoiser import Denoiser, Loss, Program, Scalings, jvp
from genkit.kinds import slot
from genkit.levels import expand


def average_velocity(sigma, to=None):
    to = torch.zeros_like(sigma) if to is None else to
    one = torch.ones_like(sigma)
    return Scalings(one, to - sigma, one, torch.stack([sigma, to], 1))


@attrs.frozen(kw_only=True)
class AverageVelocity:
    """z_r = z_t - (t - r) u(z_t, t, r)."""

    def build(self, context):
        return average_velocity


@attrs.frozen(kw_only=True)
class OneJump:
    """From t = 1 to r = 0 at once."""

    needs = "average-velocity"

    def build(self, context):
        return self

    def nfe(self, steps):
        return 1

    def __call__(self, denoiser, draw, cond, steps):
        z = draw(0)
        return denoiser(z, torch.ones(len(z)), cond, to=torch.zeros(len(z)))


@attrs.frozen(kw_only=True)
class MeanFlow:
    """Average velocities u(z, t, r) by their identity."""

    predicts = "average-velocity"
    network = slot("network", "mlp")
    parameterization = slot("parameterization", "average-velocity")
    sampler = slot("sampler", "one-jump", identity=False)

    def build(self, context):
        return MeanFlowProgram(self, context)


class MeanFlowProgram(Program):
    def __init__(self, settings, context):
        super().__init__()
        network = build(settings.network, attrs.evolve(context, times=2))
        parameterization = build(settings.parameterization, context)
        self.student = Denoiser(network, parameterization, context.spec, build(settings.sampler, context))
        self.log_weight = nn.Linear(2, 1)
        nn.init.zeros_(self.log_weight.weight)

    def forward(self, batch, k, key):
        x0, e = batch.x, key.normal("eps", batch.x)
        u = torch.stack([key.uniform("level", len(x0), x0.device, i) for i in (0, 1)]).float()
        t, r = u.amax(0), u.amin(0)
        r = torch.where(key.uniform("level", len(x0), x0.device, 2) < 0.5, t, r)
        z, v = (1 - expand(t, x0)) * x0 + expand(t, x0) * e, e - x0

        def velocity(z, t, r):
            return self.student.network(z, torch.stack([t, r], 1), batch.cond)

        out, slope = jvp(velocity, (z, t, r), (v, torch.ones_like(t), torch.zeros_like(r)))
        target = (v - expand(t - r, v) * slope).detach()
        error = (out - target).flatten(1).square().sum(1)
        log_weight = self.log_weight(torch.stack([t, r], 1)).squeeze(1)
        return Loss(log_weight.exp() * error - log_weight, {"error": error.detach().mean()})
