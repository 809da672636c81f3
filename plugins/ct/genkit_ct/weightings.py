"""Weightings of consistency training."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from genkit.kinds import Context


@attrs.frozen(kw_only=True)
class Uniform:
    """lambda = 1.

    Source: Song et al. 2023 (arXiv 2303.01469), appendix C.
    """

    def build(self, context: Context) -> Uniform:
        return self

    def __call__(self, t: Tensor, r: Tensor | None = None, gap: Tensor | None = None) -> Tensor:
        return torch.ones_like(t)
