"""The noise law of iCT."""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor

from genkit.kinds import Context, setting


@attrs.frozen(kw_only=True)
class Lognormal:
    """Lognormal levels: ln sigma ~ N(p_mean, p_std^2).

    On a grid p(i) is proportional to erf((ln s_{i+1} - p_mean) / (sqrt(2) p_std)) - erf((ln s_i - p_mean)
    / (sqrt(2) p_std)), which is the difference of this law's cdf.

    Source: Song & Dhariwal 2023 (arXiv 2310.14189), eq. 10 and table 1.
    """

    p_mean: float = setting(-1.1, "mean of ln sigma")
    p_std: float = setting(2.0, "standard deviation of ln sigma", check=attrs.validators.gt(0))

    def build(self, context: Context) -> Lognormal:
        return self

    def cdf(self, sigma: Tensor) -> Tensor:
        return (1 + torch.erf((sigma.double().log() - self.p_mean) / (math.sqrt(2) * self.p_std))) / 2

    def icdf(self, u: Tensor) -> Tensor:
        u = u.double().clamp(2.0**-53, 1 - 2.0**-53)
        return (self.p_mean + self.p_std * math.sqrt(2) * torch.erfinv(2 * u - 1)).exp()
