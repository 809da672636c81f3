"""Steps along the probability flow ODE dx/dt = (x - D(x, t)) / t.

Source: Karras et al. 2022 (arXiv 2206.00364), eq. 4 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from genkit.levels import expand

Model = Callable[..., Tensor]
Cond = Mapping[str, Tensor] | None


def slope(denoiser: Model, x: Tensor, t: Tensor, cond: Cond = None) -> Tensor:
    """dx/dt = (x - D(x, t)) / t; x (B, *), t (B,) above 0."""
    return (x - denoiser(x, t, cond)) / expand(t, x)


def euler_step(denoiser: Model, x: Tensor, t: Tensor, r: Tensor, cond: Cond = None) -> Tensor:
    """x + (r - t) d, d the slope at t: of first order, one call of the denoiser.

    Args:
        denoiser: Called (x, sigma, cond), as a `genkit.denoiser.Denoiser` is.
        x: Samples at t, (B, *).
        t: Their levels (B,), above 0.
        r: The levels to go to, (B,).
    """
    return x + expand(r - t, x) * slope(denoiser, x, t, cond)


def heun_step(denoiser: Model, x: Tensor, t: Tensor, r: Tensor, cond: Cond = None) -> Tensor:
    """x + (r - t) (d + d') / 2, d' the slope at r after an Euler step: of second order, two calls.

    Args are those of `euler_step`. Where r is 0, d' is d: the step is Euler's.

    Source: Karras et al. 2022 (arXiv 2206.00364), algorithm 1; as the solver of consistency distillation
    Song et al. 2023 (arXiv 2303.01469), algorithm 2 and section 6.1.
    """
    step, first = expand(r - t, x), slope(denoiser, x, t, cond)
    second = slope(denoiser, x + step * first, torch.where(r > 0, r, t), cond)
    return x + step * (first + torch.where(expand(r > 0, x), second, first)) / 2
