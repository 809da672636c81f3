"""The noise law of TCM's second stage."""

from __future__ import annotations

import functools
import math

import attrs
import torch
from torch import Tensor

from genkit.kinds import Context, setting

REACH, POINTS = 80.0, 2**16  # e^-80 … e^80 is what float32 has for levels


@attrs.frozen(kw_only=True)
class StudentT:
    """Student-t levels: ln sigma = loc + scale T, T of df degrees of freedom, kept within e^(loc - 80) … e^(loc + 80).

    With T = sqrt(df) sinh(y) the density of y is proportional to cosh(y)^-df, which is smooth however small df is: the
    law is tabulated over y and linear in between. At df = 0.01 nearly all mass is far out, so that within the levels of
    a recipe the law is nearly even in y: dense around loc, and as heavy in its tails as can be. It is meant for pairs
    that stay within a range.

    Source: Lee et al. 2024 (arXiv 2410.14895), its second stage: df = 0.01, loc = 0, scale = 0.2 on [1, 80].
    """

    df: float = setting(0.01, "degrees of freedom", check=attrs.validators.gt(0))
    loc: float = setting(0.0, "the middle of ln sigma")
    scale: float = setting(0.2, "width of ln sigma", check=attrs.validators.gt(0))

    def build(self, context: Context) -> StudentT:
        return self

    @property
    def width(self) -> float:
        """sqrt(df) scale: ln sigma = loc + width sinh(y)."""
        return math.sqrt(self.df) * self.scale

    @property
    def end(self) -> float:
        """The largest y."""
        return math.asinh(REACH / self.width)

    def cdf(self, sigma: Tensor) -> Tensor:
        table = _cumulative(self.df, self.end, sigma.device)
        y = ((sigma.double().log() - self.loc) / self.width).asinh()
        place = ((y / self.end + 1) / 2 * (POINTS - 1)).clamp(0, POINTS - 1)
        i = place.long().clamp(max=POINTS - 2)
        return torch.lerp(table[i], table[i + 1], place - i)

    def icdf(self, u: Tensor) -> Tensor:
        table = _cumulative(self.df, self.end, u.device)
        u = u.double().clamp(2.0**-53, 1 - 2.0**-53)
        i = torch.searchsorted(table, u)  # table[i - 1] < u <= table[i]
        place = i - 1 + (u - table[i - 1]) / (table[i] - table[i - 1])
        y = (2 * place / (POINTS - 1) - 1) * self.end
        return (self.loc + self.width * y.sinh()).exp()


@functools.lru_cache(maxsize=8)
def _cumulative(df: float, end: float, device: torch.device) -> Tensor:
    """The law of y at evenly spaced points from -end to end, float64, from 0 to 1."""
    y = torch.linspace(-end, end, POINTS, dtype=torch.float64)
    density = (-df * y.cosh().log()).exp()
    sums = torch.cumulative_trapezoid(density)
    return torch.cat([sums.new_zeros(1), sums / sums[-1]]).to(device)
