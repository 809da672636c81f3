"""Variational noise coupling: noise that an encoder draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genkit import build
from genkit.kinds import Context, Coupled, setting, slot
from genkit.levels import Levels


@attrs.frozen(kw_only=True)
class Variational:
    """Noise mu(x0) + s(x0) eps by an encoder, at the price of its divergence from N(0, I).

    The encoder is a network with two outputs for each number of a sample, mu and u; s = softplus(u). Its price is
    kl KL(N(mu, s^2) | N(0, I)) / (sigma_N - sigma_(N-1)), the sum over dimensions, with the greatest gap of the Karras
    grid of N(k) levels; kl KL alone where there is no N(k). The encoder learns by the student's loss, too, through the
    noise in x_t. Samples start from N(0, I), and so do further steps, whose noise the published code has encoded.

    On pairs of no grid the published code takes their own gap at sigma_max. For those of `ect`, once N(k) is large, the
    grid's is 5.46 times as wide: its kl = 10 is 55 here.

    Source: Silvestri et al. 2025 (arXiv 2502.18197); the scale of the price, and 1e-8 beside s, are those of its code
    (github.com/sony/vct, MIT).
    """

    network: Any = slot("network", "unet", "the encoder")
    kl: float = setting(30.0, "weight of the divergence", check=attrs.validators.ge(0))

    def build(self, context: Context) -> Encoder:
        told = attrs.evolve(context, times=1, out_channels=2 * context.spec.channels)
        return Encoder(build(self.network, told), self.kl, context.levels, context.spec.sigma_data)


class Encoder(nn.Module):
    """The coupling, with the weights of its network."""

    def __init__(self, network: nn.Module, kl: float, levels: Levels, sigma_data: float) -> None:
        super().__init__()
        self.network, self.kl, self.levels, self.sigma_data = network, kl, levels, sigma_data

    def forward(self, x0: Tensor, eps: Tensor, cond: Mapping[str, Tensor], n: int = 0) -> Coupled:
        told = self.network(x0 / self.sigma_data, torch.zeros(len(x0), device=x0.device), cond)
        mu, u = told.to(torch.promote_types(x0.dtype, torch.float32)).chunk(2, 1)
        s = F.softplus(u) + 1e-8
        gap = float(self.levels.sigmas(n).diff()[-1]) if n else 1.0
        return Coupled(mu + s * eps, self.kl / gap * divergence(mu, s))


def divergence(mu: Tensor, s: Tensor) -> Tensor:
    """KL(N(mu, s^2) | N(0, I)) = sum of (mu^2 + s^2 - 1) / 2 - ln s, (B,)."""
    return ((mu.square() + s.square() - 1) / 2 - s.log()).flatten(1).sum(1)
