"""The noise law of consistency training as first published."""

from __future__ import annotations

import attrs
from torch import Tensor

from genkit.kinds import Context
from genkit.levels import Levels


@attrs.frozen(kw_only=True)
class UniformLaw:
    """cdf(sigma) = (sigma^(1/rho) - a) / (b - a), a and b the ends of the range to the power 1/rho."""

    levels: Levels

    def _ends(self) -> tuple[float, float, float]:
        power = 1 / self.levels.rho
        return self.levels.sigma_min**power, self.levels.sigma_max**power, power

    def cdf(self, sigma: Tensor) -> Tensor:
        a, b, power = self._ends()
        return ((sigma.double().pow(power) - a) / (b - a)).clamp(0, 1)

    def icdf(self, u: Tensor) -> Tensor:
        a, b, power = self._ends()
        return (a + u.double().clamp(2.0**-53, 1 - 2.0**-53) * (b - a)).pow(1 / power)


@attrs.frozen(kw_only=True)
class Uniform:
    """Levels uniform on the rho-axis: every pair of the grid alike.

    Source: Song et al. 2023 (arXiv 2303.01469), algorithms 2 and 3, n ~ U[1, N - 1].
    """

    def build(self, context: Context) -> UniformLaw:
        return UniformLaw(levels=context.levels)
