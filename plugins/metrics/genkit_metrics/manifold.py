"""Precision and recall, density and coverage, authenticity: manifolds estimated by balls around samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genkit.errors import DataError
from genkit_metrics.blocks import Block, checked, mean, pairs, same_width

TIE = 1e-12  # of |x|^2 + |y|^2: closer, two squared distances are the same up to rounding


def precision_recall(real: Any, fake: Any, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall.

    The manifold of a set is estimated by balls around its points, each as wide as the distance to the
    point's k-th nearest neighbour within the set, itself not counted. Precision is the share of `fake`
    that lies in a ball of `real`, recall the share of `real` in a ball of `fake`; borders belong to balls.

    Distances are float64, about the mean of `real`, block by block: memory is that of the features as
    they come, and of some blocks of 4 million distances.

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
    x, y = _checked(real, fake, k, "precision-recall")
    around_x, around_y, centre = radii(x, k), radii(y, k), mean(x)
    precise, recalled = (torch.zeros(len(points), dtype=torch.bool, device=x.device) for points in (y, x))
    for block in pairs(x, y, centre):
        squares = _squares(block, -TIE)  # quantised images have many points on borders: rounding must not decide
        precise[block.j] |= (squares <= around_x[block.i, None]).any(0)
        recalled[block.i] |= (squares <= around_y[block.j]).any(1)
    return float(precise.double().mean()), float(recalled.double().mean())


def density_coverage(real: Any, fake: Any, k: int = 5) -> tuple[float, float]:
    """Density and coverage.

    With balls around `real` as in `precision_recall`, density is the mean number of balls that a point
    of `fake` lies in, over k; coverage is the share of the balls that hold any point of `fake`. Borders do
    not belong to balls, as in the authors' code, so that `real` against itself has density 1.

    Args:
        real: (N, D), a tensor or array.
        fake: (M, D).
        k: Which neighbour; at least 1.

    Returns:
        Density, at least 0 and of no bound, about 1 for perfect samples; and coverage, within [0, 1].

    Raises:
        DataError: `real` has k or fewer points, `fake` none, one is not finite, or widths differ.

    Source: Naeem et al. 2020 (arXiv 2002.09797), eq. 3 and 4.
    """
    x, y = _checked(real, fake, k, "density-coverage", of_fake=1)
    around_x, centre = radii(x, k), mean(x)
    inside = torch.zeros((), dtype=torch.int64, device=x.device)
    covered = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for block in pairs(x, y, centre):
        within = _squares(block, TIE) < around_x[block.i, None]
        inside += within.sum()
        covered[block.i] |= within.any(1)
    return int(inside) / (k * len(y)), float(covered.double().mean())


def authenticity(real: Any, fake: Any) -> float:
    """Share of `fake` that is no copy: authenticity.

    A point of `fake` counts as authentic where its nearest point of `real` has another of `real` that is nearer
    to it than the point is. A model that learnt its data by heart has fewer than images that it never saw.

    Args:
        real: (N, D), a tensor or array.
        fake: (M, D).

    Returns:
        The share, within [0, 1]; tables often show it in percent.

    Raises:
        DataError: `real` has fewer than 2 points, `fake` none, one is not finite, or widths differ.

    Source: Alaa et al. 2022 (arXiv 2102.08921), section 3.3.
    """
    x, y = _checked(real, fake, 1, "authenticity", of_fake=1)
    around, centre = radii(x, 1), mean(x)
    nearest = torch.full((len(y),), torch.inf, dtype=torch.float64, device=x.device)
    allowed = torch.zeros_like(nearest)
    for block in pairs(x, y, centre):
        least = _squares(block, -TIE).min(0)  # a copy is one, whatever rounding makes of its distance
        nearer = least.values < nearest[block.j]
        nearest[block.j] = torch.where(nearer, least.values, nearest[block.j])
        allowed[block.j] = torch.where(nearer, around[block.i][least.indices], allowed[block.j])
    return float((allowed < nearest).double().mean())


def radii(points: Tensor, k: int) -> Tensor:
    """Squared distance of each of (N, D) points to its k-th nearest neighbour: (N,), float64."""
    found, nearest = [], points.new_empty(0, 0, dtype=torch.float64)
    for block in pairs(points, points, mean(points)):
        squares = _squares(block)
        if block.i == block.j:
            squares.fill_diagonal_(torch.inf)
        near = squares if block.j.start == 0 else torch.cat((nearest, squares), 1)
        nearest = near.topk(min(k, near.shape[1]), largest=False).values
        if block.j.stop == len(points):
            found.append(nearest[:, -1])
    return torch.cat(found).clamp(min=0)


def _squares(block: Block, margin: float = 0.0) -> Tensor:
    """Squared distances of a block, (rows of x, rows of y); `margin` of the squared norms is added."""
    norms = block.x.square().sum(1)[:, None] + block.y.square().sum(1)
    return norms.mul_(1 + margin).addmm_(block.x, block.y.T, alpha=-2)


def _checked(real: Any, fake: Any, k: int, where: str, of_fake: int | None = None) -> tuple[Tensor, Tensor]:
    if k < 1:
        raise DataError(where, f"k = {k}", "k is at least 1")
    least = {"real": k + 1, "generated": of_fake or k + 1}
    x, y = (
        checked(points, name, where, least[name], f"k = {k}: give at least {least[name]}, or lower k")
        for points, name in ((real, "real"), (fake, "generated"))
    )
    same_width(x, y, where)
    return x, y.to(x.device)
