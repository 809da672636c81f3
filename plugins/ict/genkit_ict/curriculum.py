"""The curriculum of iCT."""

from __future__ import annotations

import math
from typing import Any

import attrs

from genkit.kinds import setting


def _from(least: int, most: int) -> Any:
    """A check of whole numbers, which tells absurd ones before anything is allocated."""
    return attrs.validators.and_(attrs.validators.ge(least), attrs.validators.le(most))


@attrs.frozen(kw_only=True)
class Exponential:
    """Doubling N(k) = min(s0 2^floor(k / K'), s1) + 1 grid points.

    K' = floor(K / (log2(floor(s1 / s0)) + 1)), at least 1, so that runs shorter than the number of stages
    still start. For s0 = 10, s1 = 1280 there are eight stages: 11, 21, …, 1281.

    Source: Song & Dhariwal 2023 (arXiv 2310.14189), section 3.4 and table 1.
    """

    s0: int = setting(10, "intervals at the start", check=_from(1, 10**6))
    s1: int = setting(1280, "intervals at the end", check=_from(1, 10**6))

    def __attrs_post_init__(self) -> None:
        if self.s1 < self.s0:
            raise ValueError(f"s1 must be at least s0: {self.s1} < {self.s0}")

    def __call__(self, k: int, total_steps: int) -> int:
        stage = max(1, math.floor(total_steps / (math.log2(self.s1 // self.s0) + 1)))
        doublings = min(k // stage, 64)  # beyond, s1 has long been reached
        return min(self.s0 * 2**doublings, self.s1) + 1
