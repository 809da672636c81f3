"""EDM's preconditioning."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from genkit.denoiser import Scalings
from genkit.kinds import Context


@attrs.frozen(kw_only=True)
class EdmScalings:
    """With d = sigma_data:

        c_skip = d^2 / (sigma^2 + d^2),  c_out = sigma d / sqrt(sigma^2 + d^2),
        c_in = 1 / sqrt(sigma^2 + d^2),  c_noise = ln(sigma) / 4.

    Source: Karras et al. 2022 (arXiv 2206.00364), table 1.
    """

    sigma_data: float

    def __call__(self, sigma: Tensor, to: Tensor | None = None) -> Scalings:
        sigma = sigma.to(torch.promote_types(sigma.dtype, torch.float32))
        d = self.sigma_data
        square = sigma.square() + d * d
        return Scalings(d * d / square, d * sigma / square.sqrt(), square.rsqrt(), sigma.log() / 4)


@attrs.frozen(kw_only=True)
class Edm:
    """EDM's scalings: inputs and targets of unit variance."""

    def build(self, context: Context) -> EdmScalings:
        return EdmScalings(sigma_data=context.spec.sigma_data)
