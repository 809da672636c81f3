from __future__ import annotations

import itertools

import attrs
import torch

from genkit import build, levels
from genkit.denoiser import Denoiser, Loss, Program, Scalings
from genkit.kinds import slot, source


def euler(model, x, t, r, cond):
    d = (x - model(x, t, cond)) / levels.expand(t, x)
    return x + levels.expand(r - t, x) * d


@attrs.frozen(kw_only=True)
class Edm:
    """EDM's scalings."""

    def build(self, context):
        d = context.spec.sigma_data

        def scale(sigma, to=None):
            norm = (sigma**2 + d**2).sqrt()
            return Scalings(d**2 / norm**2, sigma * d / norm, 1 / norm, sigma.log() / 4)

        return scale


@attrs.frozen(kw_only=True)
class Diffusion:
    """Denoising at lognormal levels."""

    predicts = "denoised"
    network = slot("network", "mlp")
    parameterization = slot("parameterization", "toy-edm")
    noise = slot("noise", "lognormal")
    sampler = slot("sampler", "toy-euler", identity=False)

    def build(self, context):
        return DiffusionProgram(self, context)


class DiffusionProgram(Program):
    def __init__(self, settings, context):
        super().__init__()
        self.noise, self.d = build(settings.noise, context), context.spec.sigma_data
        parts = (build(p, context) for p in (settings.network, settings.parameterization))
        self.student = Denoiser(*parts, context.spec, build(settings.sampler, context))

    def forward(self, batch, k, key):
        sigma = self.noise.icdf(key.uniform("level", len(batch.x), batch.x.device)).float()
        x = levels.add_noise(batch.x, sigma, key.normal("eps", batch.x))
        weight = (sigma**2 + self.d**2) / (sigma * self.d) ** 2
        return Loss(weight * (self.student(x, sigma, batch.cond) - batch.x).flatten(1).square().sum(1))


@attrs.frozen(kw_only=True)
class Euler:
    """Euler steps down the Karras grid."""

    needs = "denoised"

    def build(self, context):
        return Walk(levels=context.levels)


@attrs.frozen(kw_only=True)
class Walk:
    levels: levels.Levels

    def nfe(self, steps):
        return steps

    def __call__(self, denoiser, draw, cond, steps):
        sigmas = torch.cat([torch.zeros(1), self.levels.sigmas(max(2, steps)).float()[-steps:]]).flip(0)
        x = sigmas[0] * draw(0)
        for t, r in itertools.pairwise(sigmas):
            x = euler(denoiser, x, t.expand(len(x)), r.expand(len(x)), cond)
        return x


@attrs.frozen(kw_only=True)
class Ode:
    """An Euler step of a diffusion model from t to r."""

    model = source("the diffusion model")

    def build(self, context):
        model = context.load(self.model)
        return lambda x_t, t, r, x0, eps, cond: euler(model, x_t, t, r, cond)
