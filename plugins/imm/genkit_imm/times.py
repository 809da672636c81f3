"""Times of flow in genkit's levels: (1 - t) x0 + t sigma_data eps is 1 - t times x0 + sigma eps."""

from __future__ import annotations

from torch import Tensor


def time_of(sigma: Tensor, sigma_data: float) -> Tensor:
    """t = sigma / (sigma + sigma_data), from 0 at clean data to 1 at noise alone."""
    return sigma / (sigma + sigma_data)


def level_of(t: Tensor, sigma_data: float) -> Tensor:
    """sigma = sigma_data t / (1 - t), the inverse of `time_of`."""
    return sigma_data * t / (1 - t)
