"""The scalings of flow matching, with levels as everywhere in genkit."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs
import torch
from torch import Tensor

from genkit.denoiser import Scalings
from genkit.kinds import Context

Told = Callable[[Tensor, Tensor], Tensor]


def one_time(t: Tensor, gap: Tensor) -> Tensor:
    """c_noise = t, (B,)."""
    return t


def two_times(t: Tensor, gap: Tensor) -> Tensor:
    """c_noise = (t, t - r), (B, 2)."""
    return torch.stack([t, gap], 1)


@attrs.frozen(kw_only=True)
class FlowScalings:
    """From (x, sigma) to level s along the velocity u, with t = sigma / (1 + sigma) and r = s / (1 + s):

        G = ((1 - t) x - (t - r) u) / (1 - r),  so
        c_skip = (1 + s) / (1 + sigma),  c_out = -(sigma - s) / (1 + sigma),  c_in = 1 / (1 + sigma).

    x is the sample with its noise, x0 + sigma eps; the network sees z = (1 - t) x = (1 - t) x0 + t eps. Without s it is
    0, and G = z - t u. The times go to the network as they are: they are of the order of ln(sigma) / 4, which networks
    are made for, and a factor would make their derivative, which MeanFlow needs, as much larger.

    Source: Liu et al. 2023 (arXiv 2209.03003); of two times Geng et al. 2025 (arXiv 2505.13447), with the input
    (t, t - r) of its table 1.

    Attributes:
        told: What c_noise is, of t and t - r.
    """

    told: Told

    def __call__(self, sigma: Tensor, to: Tensor | None = None) -> Scalings:
        sigma = sigma.to(torch.promote_types(sigma.dtype, torch.float32))
        s = torch.zeros_like(sigma) if to is None else to.to(sigma.dtype)
        scale = 1 / (1 + sigma)
        down = (sigma - s) * scale
        return Scalings((1 + s) * scale, -down, scale, self.told(sigma * scale, down / (1 + s)))


@attrs.frozen(kw_only=True)
class Flow:
    """The network is a velocity along (1 - t) x0 + t eps, t = sigma / (1 + sigma).

    A network of one time is told t, and G(x, sigma) is the mean of the clean data; one of two is told t and t - r.
    """

    times: ClassVar[None] = None  # it serves both

    def build(self, context: Context) -> FlowScalings:
        return FlowScalings(told=two_times if context.times == 2 else one_time)
