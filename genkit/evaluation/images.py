"""Images as metrics look at them: uint8, block by block, each process its share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from genkit.evaluation import sampling
from genkit.keys import Key
from genkit.kinds import Batch
from genkit.training import processes


class Images:
    """Images that are at hand, as data: uint8 (N, C, H, W)."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: Tensor, key: Key) -> Batch:
        return Batch(self.x[indices].contiguous(), {})


def blocks(data: Any, count: int | None = None) -> Iterator[Batch]:
    """This process's blocks of the first `count` samples of a data set, as uint8 images, in order."""
    first, stride = processes.rank() * sampling.BLOCK, processes.world() * sampling.BLOCK
    total = len(data) if count is None else count
    for start in range(first, total, stride):
        yield block(data, start, min(start + sampling.BLOCK, total))


def block(data: Any, start: int, end: int) -> Batch:
    """Samples of a data set as uint8 images."""
    return rows(data, torch.arange(start, end))


def rows(data: Any, indices: Tensor) -> Batch:
    """The same of any of its samples."""
    batch = data.batch(indices, Key(0))
    return Batch(batch.x if batch.x.dtype == torch.uint8 else data.decode(batch.x), batch.cond)
