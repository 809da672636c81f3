"""How IMM draws levels."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from genkit.kinds import Context, Noise
from genkit.levels import Levels
from genkit_imm.times import level_of, time_of


@attrs.frozen(kw_only=True)
class UniformTimeLaw:
    """cdf(sigma) = sigma / (sigma + sigma_data)."""

    sigma_data: float

    def cdf(self, sigma: Tensor) -> Tensor:
        return time_of(sigma.double(), self.sigma_data)

    def icdf(self, u: Tensor) -> Tensor:
        return level_of(u.double().clamp(2.0**-53, 1 - 2.0**-53), self.sigma_data)


@attrs.frozen(kw_only=True)
class UniformTime:
    """Levels whose time t = sigma / (sigma + sigma_data) is uniform.

    Source: Zhou et al. 2025 (arXiv 2503.07565), its appendix on settings: t ~ U(0.006, 0.994), the ends by [levels].
    """

    def build(self, context: Context) -> UniformTimeLaw:
        return UniformTimeLaw(sigma_data=context.spec.sigma_data)


@attrs.frozen(kw_only=True)
class EvenSteps:
    """t of the noise law within the range, and r an even step below.

    r = max(0, t - (sigma_max - sigma_min) / (N(k) - 1)). The paper has eta = t / (1 - t) for sigma / sigma_data, and
    steps of 2^-k of its range: N = 2^k + 1.

    Source: Zhou et al. 2025 (arXiv 2503.07565), its appendix on r(s, t): constant decrement of eta.
    """

    def build(self, context: Context) -> Steps:
        return Steps(levels=context.levels)


@attrs.frozen(kw_only=True)
class Steps:
    """The pairs on a range of levels."""

    levels: Levels

    def __call__(self, noise: Noise, n: int, draw: Callable[..., Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        u = draw()
        low, high = self.levels.sigma_min, self.levels.sigma_max
        a, b = noise.cdf(torch.tensor([low, high], dtype=torch.float64, device=u.device))
        t = noise.icdf(a + u * (b - a)).clamp(low, high)
        gap = t.clamp(max=(high - low) / (n - 1))
        return t.float(), (t - gap).float(), gap.float()
