"""Maximum mean discrepancies: the kernel inception distance, and that of CMMD."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from genkit.errors import DataError
from genkit_metrics.blocks import checked, mean, pairs, same_width

WHERE = "KID"


def kid(x: Any, y: Any, subsets: Iterable[tuple[Sequence[int] | Tensor, Sequence[int] | Tensor]]) -> float:
    """The unbiased squared maximum mean discrepancy under k(a, b) = (a b / D + 1)^3, the mean over subsets.

    MMD^2 = mean of k(x_i, x_j), i != j, + mean of k(y_i, y_j), i != j, - 2 mean of k(x_i, y_j). It does not
    depend on the number of samples, and comes out below zero for half of the perfect ones.

    It is float64 throughout, block by block. Parts of the kernel that depend on one of its arguments alone
    cancel in it, and are left out beforehand: features far from zero then cost few digits.

    Args:
        x: (N, D) features, a tensor or array.
        y: (M, D).
        subsets: Pairs of indices, of rows of x and of y; at least 2 each.

    Returns:
        Their mean, in the kernel's units; tables often show 1,000 times as much.

    Raises:
        DataError: A subset has fewer than 2 rows or one that is not there, there are no subsets, features are
            not finite, or widths differ.

    Source: Bińkowski et al. 2018 (arXiv 1801.01401), section 4; the estimator is Gretton et al. 2012, eq. 3.
    """
    first, second = (
        checked(rows, which, WHERE, 2, "give at least 2") for rows, which in ((x, "real"), (y, "generated"))
    )
    same_width(first, second, WHERE)
    second = second.to(first.device)
    centre = mean(first)
    values = [_mmd2(_subset(first, i), _subset(second, j), centre) for i, j in subsets]
    if not values:
        raise DataError(WHERE, "no subsets", "give at least one pair of indices")
    return float(torch.stack(values).mean())


def gaussian_mmd2(x: Any, y: Any, sigma: float = 10.0) -> float:
    """The squared maximum mean discrepancy under k(a, b) = exp(-|a - b|^2 / 2 sigma^2), each pair counted.

    MMD^2 = mean of k(x_i, x_j) + mean of k(y_i, y_j) - 2 mean of k(x_i, y_j), a point with itself among the pairs: at
    least 0, and for few samples too large. All of it is float64, of k - 1, in which 1 cancels before it costs digits.

    Args:
        x: (N, D) features, a tensor or array.
        y: (M, D).
        sigma: Width of the kernel, in the features' units.

    Raises:
        DataError: There are fewer than 2 rows, features are not finite, or widths differ.

    Source: Jayasumana et al. 2023 (arXiv 2401.09603), eq. 4; the estimator is Gretton et al. 2012, eq. 5.
    """
    first, second = (
        checked(rows, which, "CMMD", 2, "give at least 2") for rows, which in ((x, "real"), (y, "generated"))
    )
    same_width(first, second, "CMMD")
    second, centre = second.to(first.device), mean(first)

    def average(a: Tensor, b: Tensor) -> float:
        total = centre.new_zeros(())
        for block in pairs(a, b, centre):
            norms = block.x.square().sum(1)[:, None] + block.y.square().sum(1)
            squares = norms.addmm_(block.x, block.y.T, alpha=-2).clamp_(min=0)
            total += torch.expm1(-squares / (2 * sigma**2)).sum()
        return float(total) / (len(a) * len(b))

    return average(first, first) + average(second, second) - 2 * average(first, second)


@attrs.frozen
class _Subset:
    """Rows of a matrix by their indices, gathered block by block as they are looked at."""

    x: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, part: slice) -> Tensor:
        return self.x[self.index[part]]


def _mmd2(x: _Subset, y: _Subset, centre: Tensor) -> Tensor:
    n, m = len(x), len(y)
    own = _total(x, x, centre, True) / (n * (n - 1)) + _total(y, y, centre, True) / (m * (m - 1))
    return own - 2 * _total(x, y, centre) / (n * m)


def _total(x: _Subset, y: _Subset, centre: Tensor, same: bool = False) -> Tensor:
    """Sum over pairs, of a set with itself over those of two different rows, of the kernel without what cancels.

    With a = c + u, b = c + v, s = c c / D + 1, p = c u / D, q = c v / D and w = u v / D,

        (a b / D + 1)^3 - (s + p)^3 - (s + q)^3 + s^3 = 3 p q (2 s + p + q) + w (3 A^2 + 3 A w + w^2),

    where A = s + p + q.
    """
    s, total = centre @ centre / len(centre) + 1, centre.new_zeros(())
    for block in pairs(x, y, centre):
        p, q = (block.x @ centre / len(centre))[:, None], block.y @ centre / len(centre)
        w, a = block.x @ block.y.T / len(centre), s + p + q
        values = 3 * p * q * (s + a) + w * (3 * a.square() + 3 * a * w + w.square())
        total += values.sum() - (values.diagonal().sum() if same and block.i == block.j else 0)
    return total


def _subset(x: Tensor, index: Sequence[int] | Tensor) -> _Subset:
    chosen = torch.as_tensor(index, device=x.device)
    if chosen.ndim != 1 or len(chosen) < 2:
        raise DataError(WHERE, f"a subset of {chosen.numel()}", "give at least 2 indices")
    if chosen.min() < 0 or chosen.max() >= len(x):
        raise DataError(WHERE, f"a subset has row {int(chosen.max())} of {len(x)}", "give indices of rows")
    return _Subset(x, chosen)
