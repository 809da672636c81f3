"""Weightings of consistency training, by the signal-to-noise ratio SNR(t) = 1 / t^2 of the student's level."""

from __future__ import annotations

import functools
from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from genkit.kinds import Context


@attrs.frozen(kw_only=True)
class Uniform:
    """lambda = 1.

    Source: Song et al. 2023 (arXiv 2303.01469), section 4.
    """

    def build(self, context: Context) -> Uniform:
        return self

    def __call__(self, t: Tensor, r: Tensor | None = None, gap: Tensor | None = None) -> Tensor:
        return torch.ones_like(t)


@attrs.frozen(kw_only=True)
class Snr:
    """lambda = 1 / t^2, the signal-to-noise ratio.

    Source: the published code of Song et al. 2023 (arXiv 2303.01469).
    """

    def build(self, context: Context) -> Snr:
        return self

    def __call__(self, t: Tensor, r: Tensor | None = None, gap: Tensor | None = None) -> Tensor:
        return t.square().reciprocal()


@attrs.frozen(kw_only=True)
class SnrPlusOne:
    """lambda = 1 / t^2 + 1.

    Source: the published code of Song et al. 2023 (arXiv 2303.01469); Salimans & Ho 2022 (arXiv 2202.00512).
    """

    def build(self, context: Context) -> SnrPlusOne:
        return self

    def __call__(self, t: Tensor, r: Tensor | None = None, gap: Tensor | None = None) -> Tensor:
        return t.square().reciprocal() + 1


@attrs.frozen(kw_only=True)
class TruncatedSnr:
    """lambda = max(1 / t^2, 1).

    Source: the published code of Song et al. 2023 (arXiv 2303.01469); Salimans & Ho 2022 (arXiv 2202.00512).
    """

    def build(self, context: Context) -> TruncatedSnr:
        return self

    def __call__(self, t: Tensor, r: Tensor | None = None, gap: Tensor | None = None) -> Tensor:
        return t.square().reciprocal().clamp(min=1)


def karras(t: Tensor, r: Tensor | None = None, gap: Tensor | None = None, *, sigma_data: float) -> Tensor:
    """lambda = 1 / t^2 + 1 / sigma_data^2, which is (t^2 + sigma_data^2) / (t sigma_data)^2."""
    return t.square().reciprocal() + sigma_data**-2


@attrs.frozen(kw_only=True)
class Karras:
    """lambda = 1 / t^2 + 1 / sigma_data^2: EDM's weight of a level.

    Source: Karras et al. 2022 (arXiv 2206.00364), table 1; the published code of Song et al. 2023.
    """

    def build(self, context: Context) -> Callable[..., Tensor]:
        return functools.partial(karras, sigma_data=context.spec.sigma_data)
