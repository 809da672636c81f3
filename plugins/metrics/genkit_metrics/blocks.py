"""All pairs of two sets of points, block by block, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from genkit.errors import DataError

SIDE = 2048  # of a block: its 4 million float64 take 32 MiB
DIVERGED = "look at the samples: the model may have diverged"


class Rows(Protocol):
    """A matrix, or what gathers rows of one when they are asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice) -> Tensor: ...


class Block(NamedTuple):
    """Rows `i` of one set and rows `j` of another, float64, about a centre."""

    i: slice
    j: slice
    x: Tensor
    y: Tensor


def pairs(x: Rows, y: Rows, centre: Tensor) -> Iterator[Block]:
    """Blocks that together hold each pair once, those of the same rows of x one after another.

    Only a block at a time is in float64, so that memory is that of the sets as they came, and of a few blocks.
    """
    for i in slices(len(x)):
        rows = x[i].to(centre) - centre
        for j in slices(len(y)):
            yield Block(i, j, rows, y[j].to(centre) - centre)


def slices(n: int) -> Iterator[slice]:
    for start in range(0, n, SIDE):
        yield slice(start, min(start + SIDE, n))


def mean(x: Tensor) -> Tensor:
    """Of all rows, in float64: (D,)."""
    total = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    for i in slices(len(x)):
        total += x[i].double().sum(0)
    return total / len(x)


def checked(x: Any, what: str, where: str, at_least: int, hint: str) -> Tensor:
    """A finite matrix of at least so many rows; `hint` says what to do about fewer.

    Raises:
        DataError: It is not.
    """
    points = torch.as_tensor(x).detach()
    points = points.cpu() if points.device.type == "mps" else points  # MPS has no float64
    if points.ndim == 2 and len(points) < at_least:
        raise DataError(where, f"{len(points)} {what} samples", hint)
    if points.ndim != 2 or not points.shape[1]:
        raise DataError(where, f"{what} features of shape {tuple(points.shape)}", "give a matrix (N, D)")
    if not all(bool(torch.isfinite(points[i]).all()) for i in slices(len(points))):
        raise DataError(where, f"{what} features are NaN or infinite", DIVERGED)
    return points


def same_width(x: Tensor, y: Tensor, where: str) -> None:
    """Raises DataError where two sets have not as many features."""
    if x.shape[1] != y.shape[1]:
        widths = f"{y.shape[1]} generated features, {x.shape[1]} real ones"
        raise DataError(where, widths, "compare samples by the same features and of the same size")
