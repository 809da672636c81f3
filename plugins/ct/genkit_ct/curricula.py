"""Curricula of consistency training."""

from __future__ import annotations

import math
from typing import Any

import attrs

from genkit.kinds import setting


def _from(least: int, most: int) -> Any:
    """A check of whole numbers, which tells absurd ones before anything is allocated."""
    return attrs.validators.and_(attrs.validators.ge(least), attrs.validators.le(most))


@attrs.frozen(kw_only=True)
class SquareRoot:
    """N(k) = ceil(sqrt(k/K ((s1+1)^2 - s0^2) + s0^2) - 1) + 1 grid points.

    Source: Song et al. 2023 (arXiv 2303.01469), appendix C.
    """

    s0: int = setting(2, "N at the start", check=_from(2, 10**6))
    s1: int = setting(150, "intervals at the end", check=_from(1, 10**6))

    def __attrs_post_init__(self) -> None:
        if self.s1 < self.s0:
            raise ValueError(f"s1 must be at least s0: {self.s1} < {self.s0}")

    def __call__(self, k: int, total_steps: int) -> int:
        square = k / total_steps * ((self.s1 + 1) ** 2 - self.s0**2) + self.s0**2
        return max(2, math.ceil(math.sqrt(square) - 1) + 1)


@attrs.frozen(kw_only=True)
class _Rising:
    """The settings of curricula that rise from s0 to s1 intervals along a curve."""

    s0: int = setting(10, "intervals at the start", check=_from(1, 10**6))
    s1: int = setting(1280, "intervals at the end", check=_from(1, 10**6))

    def __attrs_post_init__(self) -> None:
        if self.s1 < self.s0:
            raise ValueError(f"s1 must be at least s0: {self.s1} < {self.s0}")

    def _points(self, height: float) -> int:
        return math.floor(self.s0 + (self.s1 - self.s0) * height) + 1


@attrs.frozen(kw_only=True)
class Linear(_Rising):
    """N(k) = floor(s0 + (s1 - s0) k/K) + 1 grid points.

    Source: Song & Dhariwal 2023 (arXiv 2310.14189), section 3.4, which plots the shape; its rounding is ours.
    """

    def __call__(self, k: int, total_steps: int) -> int:
        return self._points(k / total_steps)


@attrs.frozen(kw_only=True)
class Square(_Rising):
    """N(k) = floor(s0 + (s1 - s0) (k/K)^2) + 1 grid points.

    Source: Song & Dhariwal 2023 (arXiv 2310.14189), section 3.4, which plots the shape; its rounding is ours.
    """

    def __call__(self, k: int, total_steps: int) -> int:
        return self._points((k / total_steps) ** 2)


@attrs.frozen(kw_only=True)
class Cosine(_Rising):
    """N(k) = floor(s0 + (s1 - s0) (1 - cos(pi k/K)) / 2) + 1 grid points.

    Slow at both ends. Source: Song & Dhariwal 2023 (arXiv 2310.14189), section 3.4; the formula is ours.
    """

    def __call__(self, k: int, total_steps: int) -> int:
        return self._points((1 - math.cos(math.pi * k / total_steps)) / 2)


@attrs.frozen(kw_only=True)
class Constant:
    """The same number of grid points, s1 + 1, at every step.

    Source: Song & Dhariwal 2023 (arXiv 2310.14189), section 3.4, the curve without a curriculum.
    """

    s1: int = setting(150, "intervals", check=_from(1, 10**6))

    def __call__(self, k: int, total_steps: int) -> int:
        return self.s1 + 1
