"""Scalings of consistency models: both keep f(x, sigma_min) = x."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from genkit.denoiser import Scalings
from genkit.kinds import Context


@attrs.frozen(kw_only=True)
class BoundaryScalings:
    """With s = sigma - sigma_min and d = sigma_data:

        c_skip = d^2 / (s^2 + d^2),  c_out = d s / sqrt(sigma^2 + d^2),
        c_in = 1 / sqrt(sigma^2 + d^2),  c_noise = ln(sigma) / 4.

    At sigma_min, c_skip is 1 and c_out is 0 exactly. c_noise carries no factor of 1000: with it a
    positional embedding tells neighbouring levels apart a thousand times more than iCT found stable.

    Source: Song et al. 2023 (arXiv 2303.01469), appendix C; Karras et al. 2022, table 1.
    """

    sigma_min: float
    sigma_data: float

    def __call__(self, sigma: Tensor, to: Tensor | None = None) -> Scalings:
        sigma = sigma.to(torch.promote_types(sigma.dtype, torch.float32))
        d, s = self.sigma_data, sigma - self.sigma_min
        norm = (sigma * sigma + d * d).sqrt()
        return Scalings(d * d / (s * s + d * d), d * s / norm, 1 / norm, sigma.log() / 4)


@attrs.frozen(kw_only=True)
class Boundary:
    """Scalings with f(x, sigma_min) = x exactly."""

    def build(self, context: Context) -> BoundaryScalings:
        return BoundaryScalings(sigma_min=context.levels.sigma_min, sigma_data=context.spec.sigma_data)


@attrs.frozen(kw_only=True)
class PointScalings:
    """c_skip = sigma_min / sigma, c_out = 1 - sigma_min / sigma; c_in and c_noise as `BoundaryScalings` has them."""

    sigma_min: float
    sigma_data: float

    def __call__(self, sigma: Tensor, to: Tensor | None = None) -> Scalings:
        sigma = sigma.to(torch.promote_types(sigma.dtype, torch.float32))
        share = self.sigma_min / sigma
        return Scalings(share, 1 - share, (sigma.square() + self.sigma_data**2).rsqrt(), sigma.log() / 4)


@attrs.frozen(kw_only=True)
class Point:
    """Scalings with which f is exact for data at one point, where F is that point.

    f(x, sigma) = (sigma_min / sigma) x + (1 - sigma_min / sigma) F solves dx/dsigma = (x - F) / sigma.

    Source: Song & Dhariwal 2023 (arXiv 2310.14189), section 3.2.
    """

    def build(self, context: Context) -> PointScalings:
        return PointScalings(sigma_min=context.levels.sigma_min, sigma_data=context.spec.sigma_data)
