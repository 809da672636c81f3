"""Curricula of consistency training."""

from __future__ import annotations

import math

import attrs

from genkit.kinds import setting


@attrs.frozen(kw_only=True)
class SquareRoot:
    """N(k) = ceil(sqrt(k/K ((s1+1)^2 - s0^2) + s0^2) - 1) + 1 grid points.

    Source: Song et al. 2023 (arXiv 2303.01469), appendix C.
    """

    s0: int = setting(2, "N at the start", check=attrs.validators.ge(2))
    s1: int = setting(150, "intervals at the end", check=attrs.validators.ge(1))

    def __attrs_post_init__(self) -> None:
        if self.s1 < self.s0:
            raise ValueError(f"s1 must be at least s0: {self.s1} < {self.s0}")

    def __call__(self, k: int, total_steps: int) -> int:
        square = k / total_steps * ((self.s1 + 1) ** 2 - self.s0**2) + self.s0**2
        return max(2, math.ceil(math.sqrt(square) - 1) + 1)


@attrs.frozen(kw_only=True)
class Constant:
    """The same number of grid points, s1 + 1, at every step.

    Source: Song & Dhariwal 2023 (arXiv 2310.14189), section 3.4, the curve without a curriculum.
    """

    s1: int = setting(150, "intervals", check=attrs.validators.ge(1))

    def __call__(self, k: int, total_steps: int) -> int:
        return self.s1 + 1
