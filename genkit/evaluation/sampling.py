"""Samples of a denoiser: sample i depends only on (seed, i), however many are drawn with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from genkit.denoiser import Denoiser
from genkit.errors import DataError
from genkit.keys import Key
from genkit.kinds import Batch

BLOCK = 256  # draws are made for this many samples at a time


Label = int | str | None
EVENLY = "evenly"


def sample(
    denoiser: Denoiser | Any, count: int, steps: int | Sequence[float] = 1, seed: int = 0, label: Label = None
) -> Tensor:
    """Draw samples.

    Args:
        denoiser: Or a `genkit.State`, whose averaged weights are taken.
        steps: How many sampling steps, or the levels after the first, descending.
        label: One class for all, or "evenly": each class that has training images as often. By default classes come
            as often as among the training images; where `denoiser.spec.counts` does not tell, evenly.

    Returns:
        float32 (count, C, H, W), on the denoiser's device.

    Raises:
        DataError: The label is none of the model's, or of a class without training images.
    """
    with of_state(denoiser) as model:
        return samples(model, count, steps, seed, label).x


@contextmanager
def of_state(model: Any, weights: str = "ema") -> Iterator[Denoiser]:
    """A denoiser as it is; of a `State` its student with these averaged weights, for as long as this lasts."""
    if isinstance(model, Denoiser):
        yield model
    else:
        with model.sampled(weights):
            yield model.program.student


def samples(
    denoiser: Denoiser, count: int, steps: int | Sequence[float] = 1, seed: int = 0, label: Label = None
) -> Batch:
    """The same samples, with their conditioning."""
    starts = range(0, count, BLOCK)
    drawn = [block(denoiser, i // BLOCK, min(BLOCK, count - i), steps, seed, label) for i in starts]
    cond = {name: torch.cat([batch.cond[name] for batch in drawn]) for name in drawn[0].cond}
    return Batch(torch.cat([batch.x for batch in drawn]), cond)


@torch.no_grad()
def block(
    denoiser: Denoiser, index: int, count: int, steps: int | Sequence[float], seed: int, label: Label = None
) -> Batch:
    """The first `count` samples of block `index`, with their conditioning."""
    cond = conditioning(denoiser, index, count, seed, label)
    return Batch(denoiser.sampler(denoiser, latents(denoiser, index, count, seed), cond, steps).float(), cond)


def latents(denoiser: Denoiser, index: int, count: int, seed: int) -> Callable[[int], Tensor]:
    """draw(j): the j-th unit normals of the first `count` samples of block `index`, on the denoiser's device."""
    key, device, shape = Key(seed), next(denoiser.parameters()).device, (BLOCK, *denoiser.spec.shape)
    return lambda j: torch.randn(shape, generator=key.generator("sample", index, j))[:count].to(device)


def conditioning(denoiser: Denoiser, index: int, count: int, seed: int, label: Label) -> dict[str, Tensor]:
    """The labels of the first `count` samples of block `index`, where the model knows classes."""
    if denoiser.spec.classes:
        device = next(denoiser.parameters()).device
        return {"label": _labels(denoiser, Key(seed), index, label)[:count].to(device)}
    if label is not None:
        raise DataError("label", f"{label}: the model knows no classes", "train with dataset.labels = true")
    return {}


def _labels(denoiser: Denoiser, key: Key, index: int, label: Label) -> Tensor:
    """Those of images picked at random: a class gets what its images are of all."""
    classes = denoiser.spec.classes
    counts = torch.tensor(denoiser.spec.counts or (1,) * classes)
    if isinstance(label, int):
        if not 0 <= label < classes or not counts[label]:
            what = f"{label} is no class" if not 0 <= label < classes else f"class {label} has no training images"
            raise DataError("label", what, f"classes are 0 … {classes - 1}")
        return torch.full((BLOCK,), label)
    last = (counts.sign() if label == EVENLY else counts).cumsum(0)
    picked = torch.randint(int(last[-1]), (BLOCK,), generator=key.generator("label", index))
    return torch.bucketize(picked, last, right=True)


def unrecorded(denoiser: Denoiser) -> list[str]:
    """A line where labels can only be drawn evenly, as an older run does not tell how often each class comes."""
    if not denoiser.spec.classes or denoiser.spec.counts:
        return []
    return ["labels are drawn evenly: how often each class comes is not on record; running the recipe again records it"]


def shard(count: int, rank: int, world: int) -> Iterator[tuple[int, int]]:
    """(block, samples in it) that this rank draws, of `count` in all."""
    for index in range(rank, -(-count // BLOCK), world):
        yield index, min(BLOCK, count - index * BLOCK)


def places(first: int, count: int, rank: int, world: int) -> Tensor:
    """Where samples `first`, `first` + 1, … of those that this rank draws stand among all: (count,)."""
    own = torch.arange(first, first + count)
    return (own // BLOCK * world + rank) * BLOCK + own % BLOCK
