"""The weighting that makes denoising flow matching."""

from __future__ import annotations

import attrs
from torch import Tensor

from genkit.kinds import Context


@attrs.frozen(kw_only=True)
class Velocity:
    """lambda = ((1 + sigma) / sigma)^2 = 1 / t^2: what denoising counts as an error of velocity.

    With D = z - t v and x0 = z - t (eps - x0), D - x0 = -t (v - (eps - x0)).

    Source: Liu et al. 2023 (arXiv 2209.03003), eq. 1.
    """

    def build(self, context: Context) -> Velocity:
        return self

    def __call__(self, t: Tensor, r: Tensor | None = None, gap: Tensor | None = None) -> Tensor:
        return (1 + 1 / t).square()
