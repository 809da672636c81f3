"""How data and noise are paired where nobody says otherwise."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from torch import Tensor

from genkit.kinds import Context, Coupled


@attrs.frozen(kw_only=True)
class Independent:
    """Noise that knows nothing of its sample."""

    def build(self, context: Context) -> Independent:
        return self

    def __call__(self, x0: Tensor, eps: Tensor, cond: Mapping[str, Tensor], n: int = 0) -> Coupled:
        return Coupled(eps)
