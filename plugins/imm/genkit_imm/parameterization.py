"""The scalings of IMM."""

from __future__ import annotations

from typing import ClassVar

import attrs
import torch
from attrs.validators import gt
from torch import Tensor

from genkit.denoiser import Scalings
from genkit.kinds import Context, setting
from genkit_imm.times import time_of


@attrs.frozen(kw_only=True)
class ImmScalings:
    """From (x, sigma) to level s, with d = sigma_data and times t = sigma / (sigma + d), u = s / (s + d):

        c_skip = (d^2 + sigma s) / (d^2 + sigma^2),  c_out = -d (sigma - s) / sqrt(d^2 + sigma^2),
        c_in = 1 / sqrt(d^2 + sigma^2),  c_noise = scale (t, u).

    In the paper's units, z = (1 - t) x, they are its "simple EDM": c_skip = (a a' + b b') / (a^2 + b^2) with a = 1 - t,
    b = t, a' = 1 - u, b' = u. They are those of CTM but for the network's sign, and for times in place of logarithms.
    Without s it is 0. Below sigma_min nothing is trained: there the network is told sigma_min's time for u.

    Source: Zhou et al. 2025 (arXiv 2503.07565), its appendix on parameterization.
    """

    sigma_data: float
    sigma_min: float
    scale: float

    def __call__(self, sigma: Tensor, to: Tensor | None = None) -> Scalings:
        sigma = sigma.to(torch.promote_types(sigma.dtype, torch.float32))
        s = torch.zeros_like(sigma) if to is None else to.to(sigma.dtype)
        d = self.sigma_data
        square = sigma.square() + d * d
        told = [time_of(level, d) for level in (sigma, s.clamp(min=self.sigma_min))]
        return Scalings(
            (d * d + sigma * s) / square,
            -d * (sigma - s) / square.sqrt(),
            square.rsqrt(),
            self.scale * torch.stack(told, 1),
        )


@attrs.frozen(kw_only=True)
class Imm:
    """Jumps with EDM's scalings; the network is told times."""

    times: ClassVar[int] = 2

    scale: float = setting(1.0, "what multiplies the times; the paper, for positional embedding: 1000", check=gt(0))

    def build(self, context: Context) -> ImmScalings:
        return ImmScalings(sigma_data=context.spec.sigma_data, sigma_min=context.levels.sigma_min, scale=self.scale)
