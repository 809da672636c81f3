"""How the pair of a consistency objective is made without a model."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from torch import Tensor

from genkit.kinds import Context
from genkit.levels import add_noise


@attrs.frozen(kw_only=True)
class SameNoise:
    """x_r = x0 + r eps: consistency training.

    It equals an Euler step from x_t along the ODE with x0 in place of the denoiser's answer.

    Source: Song et al. 2023 (arXiv 2303.01469), algorithm 3.
    """

    def build(self, context: Context) -> SameNoise:
        return self

    def __call__(
        self, x_t: Tensor, t: Tensor, r: Tensor, x0: Tensor, eps: Tensor, cond: Mapping[str, Tensor]
    ) -> Tensor:
        return add_noise(x0, r, eps)
