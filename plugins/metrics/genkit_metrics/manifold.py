"""Precision and recall: manifolds estimated by balls around samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genkit.errors import DataError

BLOCK = 1 << 22  # distances at a time, 32 MiB
TIE = 1e-12  # of |x|^2 + |y|^2: closer, two squared distances are the same up to rounding


def precision_recall(real: Any, fake: Any, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall.

    The manifold of a set is estimated by balls around its points, each as wide as the distance to the
    point's k-th nearest neighbour within the set, itself not counted. Precision is the share of `fake`
    that lies in a ball of `real`, recall the share of `real` in a ball of `fake`; borders belong to balls.

    Distances are float64, about the mean of `real`, block by block: memory is that of the features and
    of 4 million distances.

    Args:
        real: (N, D), a tensor or array.
        fake: (M, D).
        k: Which neighbour; at least 1.

    Returns:
        Precision and recall, each within [0, 1].

    Raises:
        DataError: A set has k or fewer points, is not finite, or widths differ.

    Source: Kynkäänniemi et al. 2019 (arXiv 1904.06991), eq. 1 and algorithm 1.
    """
    points, others = (_checked(x, name, k) for x, name in ((real, "real"), (fake, "generated")))
    if points.shape[1] != others.shape[1]:
        widths = f"{others.shape[1]} generated features, {points.shape[1]} real ones"
        raise DataError("precision-recall", widths, "compare samples by the same features and of the same size")
    centre = points.mean(0)
    points, others = points - centre, others.to(points) - centre
    precision = _covered(others, points, radii(points, k))
    return precision, _covered(points, others, radii(others, k))


def radii(points: Tensor, k: int) -> Tensor:
    """Squared distance of each point to its k-th nearest neighbour; (N, D), centred, to (N,)."""
    found = []
    for start, rows in _blocks(points, len(points)):
        squares = _norms(rows)[:, None] + _norms(points) - 2 * rows @ points.T
        own = torch.arange(len(rows), device=points.device)
        squares[own, own + start] = torch.inf
        found.append(squares.topk(k, largest=False).values[:, -1])
    return torch.cat(found).clamp(min=0)


def _covered(points: Tensor, centres: Tensor, radius: Tensor) -> float:
    """Share of the points that lie in a ball around any of the centres; squared radii."""
    inside = 0
    for _, rows in _blocks(points, len(centres)):
        # Without the margin, rounding would decide about points on the border: quantised images have many.
        squares = (_norms(rows)[:, None] + _norms(centres)) * (1 - TIE) - 2 * rows @ centres.T
        inside += int((squares <= radius).any(1).sum())
    return inside / len(points)


def _norms(x: Tensor) -> Tensor:
    return x.square().sum(1)


def _blocks(rows: Tensor, others: int) -> list[tuple[int, Tensor]]:
    """Rows in parts, with the first one's index: few enough for BLOCK distances to the others."""
    size = max(1, BLOCK // others)
    return [(start, rows[start : start + size]) for start in range(0, len(rows), size)]


def _checked(x: Any, name: str, k: int) -> Tensor:
    points = torch.as_tensor(x).detach()
    points = (points.cpu() if points.device.type == "mps" else points).double()  # MPS has no float64
    if points.ndim != 2 or not points.shape[1]:
        raise DataError("precision-recall", f"{name} features of shape {tuple(points.shape)}", "give a matrix (N, D)")
    if k < 1 or len(points) <= k:
        hint = "draw more samples, or lower k" if k > 1 else "draw more samples; k is at least 1"
        raise DataError("precision-recall", f"k = {k} with {len(points)} {name} samples", hint)
    if not bool(torch.isfinite(points).all()):
        hint = "look at the samples: the model may have diverged"
        raise DataError("precision-recall", f"{name} features are NaN or infinite", hint)
    return points
