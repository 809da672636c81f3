"""The metric of MeanFlow."""

from __future__ import annotations

import functools

import attrs
from attrs.validators import ge, gt, in_
from torch import Tensor

from genkit.kinds import At, Context, LossFunction, setting


def adaptive(x: Tensor, y: Tensor, at: At | None = None, *, p: float, eps: float, mean: bool) -> Tensor:
    """d(x, y) = q / sg(q + eps)^p with q = |x - y|^2 of the whole image, sg without gradient; (B,).

    Source: Geng et al. 2025 (arXiv 2505.13447), adaptive loss weighting.
    """
    square = (x - y).flatten(1).square()
    q = square.mean(1) if mean else square.sum(1)
    return q / (q.detach() + eps) ** p


@attrs.frozen(kw_only=True)
class Adaptive:
    """Squared distance of the image over its own value to a power: q / (q + eps)^p.

    The divisor has no gradient, so images count the more alike the larger p: p = 0 is squared l2; p = 1/2 has the
    gradient of pseudo-Huber with c^2 = eps. One q per image: element by element it would be another loss.
    """

    p: float = setting(0.75, "how much distances are evened out; 0 not at all", check=ge(0))
    eps: float = setting(1e-3, "added to q, in squared data units", check=gt(0))
    q: str = setting("sum", "over the numbers of an image: sum or mean", check=in_(("sum", "mean")))

    def build(self, context: Context) -> LossFunction:
        return functools.partial(adaptive, p=self.p, eps=self.eps, mean=self.q == "mean")
