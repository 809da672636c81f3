"""Noise levels: the Karras grid, its discretised noise law, and adding noise.

Torch is imported inside the functions, since recipes are checked without it.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, NamedTuple

import attrs

from genkit.errors import RecipeError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def _positive(default: float, help: str) -> float:
    return attrs.field(default=default, validator=attrs.validators.gt(0), metadata={"help": help})


@attrs.frozen(kw_only=True)
class Levels:
    """The range of noise levels, in data units, and the grid's curvature.

    Source: Karras et al. 2022 (arXiv 2206.00364), eq. 5, with Song et al. 2023's values.
    """

    sigma_min: float = _positive(0.002, "smallest level, where a consistency function is the identity")
    sigma_max: float = _positive(80.0, "largest level, where sampling starts")
    rho: float = _positive(7.0, "curvature of the grid")

    def __attrs_post_init__(self) -> None:
        if self.sigma_max <= self.sigma_min:
            raise ValueError(f"sigma_max must be above sigma_min: {self.sigma_max} <= {self.sigma_min}")
        if not self._rise():
            what = f"no grid of rho = {self.rho} rises from {self.sigma_min} to {self.sigma_max} in floating point"
            raise ValueError(f"{what}; take rho nearer to 7, or levels that are further apart and nearer to 1")

    def _rise(self) -> bool:
        """Whether grids of 2 to 2^16 levels rise from end to end, and the ends do in float32, which networks see."""
        try:
            a, b = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
            # where a power bends, the narrowest gap is at an end
            grid = [(a + i * (b - a)) ** self.rho for i in (0, 2**-16, 0.5, 1 - 2**-16, 1)]
        except OverflowError:
            return False
        inside = self.sigma_min > 1e-38 and self.sigma_max < 1e38 and self.sigma_max > 1.000001 * self.sigma_min
        ends = (grid[0] / self.sigma_min, grid[-1] / self.sigma_max)
        return inside and all(abs(end - 1) < 1e-6 for end in ends) and all(r < t for r, t in itertools.pairwise(grid))

    def sigmas(self, n: int) -> Tensor:
        """n levels, ascending: (a + i/(n-1) (b - a))^rho, a and b the ends to the power 1/rho.

        Returns:
            float64, shape (n,), with both ends exact.

        Raises:
            RecipeError: For fewer than two levels.
        """
        import torch

        if n < 2:
            raise RecipeError("curriculum", f"N = {n} grid points make no pair", "use at least 2")
        a, b = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        sigmas: Tensor = (a + torch.linspace(0, 1, n, dtype=torch.float64) * (b - a)) ** self.rho
        sigmas[0], sigmas[-1] = self.sigma_min, self.sigma_max
        return sigmas


class Grid(NamedTuple):
    """n levels with the chance of each pair of neighbours.

    Attributes:
        sigmas: (n,), float32, ascending.
        gaps: (n - 1,), float32 of the float64 differences (float32 levels lose 2.5e-5 at n = 1281).
        cumulative: float64 chance that the pair's index is at most i; ends with 1, then padded
            with 2.0 to a length that is a power of two, so that shapes seldom change with n.
    """

    sigmas: Tensor
    gaps: Tensor
    cumulative: Tensor

    def draw(self, u: Tensor) -> Tensor:
        """Indices i of pairs (sigmas[i], sigmas[i + 1]) from uniform u in [0, 1), float64 (B,)."""
        import torch

        return torch.searchsorted(self.cumulative, u, right=True)


@functools.lru_cache(maxsize=64)
def grid(levels: Levels, n: int, noise: object, device: torch.device | str = "cpu") -> Grid:
    """The grid of n levels under a noise law: p(i) is proportional to cdf(s_{i+1}) - cdf(s_i).

    Source: Song & Dhariwal 2023 (arXiv 2310.14189), eq. 10, for any law in place of the lognormal.
    """
    import torch

    sigmas = levels.sigmas(n)
    cumulative = noise.cdf(sigmas) - noise.cdf(sigmas[:1])  # type: ignore[attr-defined]
    if not cumulative[-1] > 0:
        what = f"has no mass between {levels.sigma_min} and {levels.sigma_max}"
        raise RecipeError("noise", what, "check its settings")
    cumulative = cumulative[1:] / cumulative[-1]
    padded = torch.full((1 << (n - 1).bit_length(),), 2.0, dtype=torch.float64)
    padded[: n - 1] = cumulative
    padded[n - 2] = 1.0
    sigmas32, gaps = sigmas.float(), sigmas.diff().float()
    return Grid(sigmas32.to(device), gaps.to(device), padded.to(device))


def expand(v: Tensor, x: Tensor) -> Tensor:
    """v of shape (B,) with trailing axes to multiply x of shape (B, *)."""
    return v.reshape(-1, *(1,) * (x.ndim - 1))


def add_noise(x0: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    """x = x0 + sigma eps; x0 and eps (B, *), sigma (B,)."""
    return x0 + expand(sigma, x0) * eps
