"""How data and noise are paired where nobody says otherwise, and what objectives ask of a coupling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from torch import Tensor

from genkit.keys import Key
from genkit.kinds import Context, Coupled, slot


@attrs.frozen(kw_only=True)
class Independent:
    """Noise that knows nothing of its sample."""

    def build(self, context: Context) -> Independent:
        return self

    def __call__(self, x0: Tensor, eps: Tensor, cond: Mapping[str, Tensor], n: int = 0) -> Coupled:
        return Coupled(eps)


def coupling_slot() -> Any:
    """The slot `coupling` of an objective; runs from before there was one keep their ids."""
    before = "genkit-lab-coupling/independent@1"
    return slot("coupling", "independent", "how x0 and eps are paired", before=before)


def paired(coupling: Any, x0: Tensor, cond: Mapping[str, Tensor], key: Key, n: int = 0) -> Coupled:
    """The noise of x0, and its price."""
    with key.reseeded(x0.device):
        found: Coupled = coupling(x0, key.normal("eps", x0), cond, n)
    return found
