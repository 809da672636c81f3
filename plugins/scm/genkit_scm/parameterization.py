"""TrigFlow's preconditioning, on levels."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from genkit.denoiser import Scalings
from genkit.kinds import Context


@attrs.frozen(kw_only=True)
class TrigFlowScalings:
    """With d = sigma_data, t = arctan(sigma / d), and x = x_t / cos t for TrigFlow's x_t = cos t x0 + sin t d eps:

        f = cos t x_t - d sin t F(x_t / d, t), which is
        c_skip = d^2 / (sigma^2 + d^2),  c_out = -sigma d / sqrt(sigma^2 + d^2),
        c_in = 1 / sqrt(sigma^2 + d^2),  c_noise = t.

    These are EDM's scalings with F's sign turned, but for c_noise.

    Source: Lu & Song 2024 (arXiv 2410.11081), section 3.
    """

    sigma_data: float

    def __call__(self, sigma: Tensor, to: Tensor | None = None) -> Scalings:
        sigma = sigma.to(torch.promote_types(sigma.dtype, torch.float32))
        d = self.sigma_data
        square = sigma.square() + d * d
        return Scalings(d * d / square, -d * sigma / square.sqrt(), square.rsqrt(), torch.atan(sigma / d))


@attrs.frozen(kw_only=True)
class TrigFlow:
    """TrigFlow's scalings, with the angle as c_noise."""

    def build(self, context: Context) -> TrigFlowScalings:
        return TrigFlowScalings(sigma_data=context.spec.sigma_data)
