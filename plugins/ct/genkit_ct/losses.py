"""Metrics of consistency training; l1 and l2 are means over dimensions, as its published code has them."""

from __future__ import annotations

import attrs
from torch import Tensor

from genkit.kinds import At, Context, LossFunction


def l1(x: Tensor, y: Tensor, at: At | None = None) -> Tensor:
    """mean |x - y| over the dimensions of a sample: (B, *), (B, *) -> (B,)."""
    return (x - y).flatten(1).abs().mean(1)


def l2(x: Tensor, y: Tensor, at: At | None = None) -> Tensor:
    """mean (x - y)^2 over the dimensions of a sample: (B, *), (B, *) -> (B,)."""
    return (x - y).flatten(1).square().mean(1)


def linf(x: Tensor, y: Tensor, at: At | None = None) -> Tensor:
    """max |x - y| over the dimensions of a sample: (B, *), (B, *) -> (B,)."""
    return (x - y).flatten(1).abs().amax(1)


@attrs.frozen(kw_only=True)
class L1:
    """l1 metric: the mean of |x - y| over dimensions.

    Source: Song et al. 2023 (arXiv 2303.01469), section 6.1.
    """

    def build(self, context: Context) -> LossFunction:
        return l1


@attrs.frozen(kw_only=True)
class L2:
    """Squared l2 metric: the mean of (x - y)^2 over dimensions.

    Source: Song et al. 2023 (arXiv 2303.01469), section 6.1.
    """

    def build(self, context: Context) -> LossFunction:
        return l2


@attrs.frozen(kw_only=True)
class LInf:
    """Maximum metric: the largest |x - y| of a sample.

    Source: the published code of Song et al. 2023 (arXiv 2303.01469) for CIFAR-10.
    """

    def build(self, context: Context) -> LossFunction:
        return linf
