"""The metric of iCT."""

from __future__ import annotations

import functools
import math

import attrs
import torch
from torch import Tensor

from genkit.kinds import At, Context, LossFunction, setting


def pseudo_huber(x: Tensor, y: Tensor, at: At | None = None, *, c: float) -> Tensor:
    """d(x, y) = sqrt(|x - y|^2 + c^2) - c, one Euclidean norm over the whole sample.

    Applied element by element with the same c, as several re-implementations do, the quadratic zone
    would be sqrt(d) times wider in each element and the loss nearly plain l2.

    Args:
        x, y: Batches (B, *).
        c: Where l2 turns into l1, in data units; 0 for the norm itself, with gradient 0 where x = y.

    Returns:
        (B,), float32 or better. Written as |x - y|^2 / (root + c), which keeps the digits of small
        distances that the difference would lose.

    Source: Song & Dhariwal 2023 (arXiv 2310.14189), section 3.3; Charbonnier et al. 1997.
    """
    if c == 0:
        return torch.linalg.vector_norm((x - y).flatten(1), dim=1)
    square = (x - y).flatten(1).square().sum(1)
    return square / ((square + c * c).sqrt() + c)


@attrs.frozen(kw_only=True)
class PseudoHuber:
    """Pseudo-Huber metric sqrt(|x - y|^2 + c^2) - c, one norm per image."""

    c: float | None = setting(
        None,
        "data units, 0 for the norm alone; 0.00054 sqrt(d) for d numbers per sample if not given",
        check=attrs.validators.optional(attrs.validators.ge(0)),
    )

    def build(self, context: Context) -> LossFunction:
        c = 0.00054 * math.sqrt(context.spec.size) if self.c is None else self.c
        return functools.partial(pseudo_huber, c=c)
