"""Samples of a denoiser: sample i depends only on (seed, i), however many are drawn with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from genkit.denoiser import Denoiser
from genkit.errors import DataError
from genkit.keys import Key
from genkit.kinds import Batch

BLOCK = 256  # draws are made for this many samples at a time


@torch.no_grad()
def sample(
    denoiser: Denoiser, count: int, steps: int | Sequence[float] = 1, seed: int = 0, label: int | None = None
) -> Tensor:
    """Draw samples.

    Args:
        steps: How many sampling steps, or the levels after the first, descending.
        label: One class for all; by default classes are drawn evenly.

    Returns:
        float32 (count, C, H, W), on the denoiser's device.

    Raises:
        DataError: The label is none of the model's.
    """
    starts = range(0, count, BLOCK)
    return torch.cat([block(denoiser, i // BLOCK, min(BLOCK, count - i), steps, seed, label).x for i in starts])


@torch.no_grad()
def block(
    denoiser: Denoiser, index: int, count: int, steps: int | Sequence[float], seed: int, label: int | None = None
) -> Batch:
    """The first `count` samples of block `index`, with their conditioning."""
    device = next(denoiser.parameters()).device
    key, shape = Key(seed), denoiser.spec.shape

    def draw(j: int) -> Tensor:
        whole = torch.randn((BLOCK, *shape), generator=key.generator("sample", index, j))
        return whole[:count].to(device)

    cond = {} if denoiser.spec.classes == 0 else {"label": _labels(denoiser, key, index, label)[:count].to(device)}
    if label is not None and not cond:
        raise DataError("label", f"{label}: the model knows no classes", "train with dataset.labels = true")
    return Batch(denoiser.sampler(denoiser, draw, cond, steps).float(), cond)


def _labels(denoiser: Denoiser, key: Key, index: int, label: int | None) -> Tensor:
    classes = denoiser.spec.classes
    if label is None:
        return torch.randint(classes, (BLOCK,), generator=key.generator("label", index))
    if not 0 <= label < classes:
        raise DataError("label", f"{label} is no class", f"classes are 0 … {classes - 1}")
    return torch.full((BLOCK,), label)


def shard(count: int, rank: int, world: int) -> Iterator[tuple[int, int]]:
    """(block, samples in it) that this rank draws, of `count` in all."""
    for index in range(rank, -(-count // BLOCK), world):
        yield index, min(BLOCK, count - index * BLOCK)
