"""EDM's weighting."""

from __future__ import annotations

import attrs
from torch import Tensor

from genkit.kinds import Context


@attrs.frozen(kw_only=True)
class EdmWeights:
    """lambda(t) = (t^2 + d^2) / (t d)^2 = 1 / c_out(t)^2, d = sigma_data."""

    sigma_data: float

    def __call__(self, t: Tensor, r: Tensor | None = None, gap: Tensor | None = None) -> Tensor:
        return (t.square() + self.sigma_data**2) / (t * self.sigma_data).square()


@attrs.frozen(kw_only=True)
class Edm:
    """lambda = (t^2 + sigma_data^2) / (t sigma_data)^2: every level alike.

    Source: Karras et al. 2022 (arXiv 2206.00364), table 1.
    """

    def build(self, context: Context) -> EdmWeights:
        return EdmWeights(sigma_data=context.spec.sigma_data)
