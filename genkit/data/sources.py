"""Batches of a data set, in an order that is a function of k; and data sets that live on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

import attrs
import torch
from torch import Tensor

from genkit.errors import DataError
from genkit.keys import Key, order
from genkit.kinds import Batch, Data, Spec
from genkit.levels import expand


def quantise(x0: Tensor) -> Tensor:
    """[-1, 1] to uint8, rounding half up: floor(127.5 x + 128), clipped.  Source: EDM's generator."""
    return (x0.float() * 127.5 + 128).clip(0, 255).to(torch.uint8)


@attrs.frozen(kw_only=True, eq=False)
class Resident:
    """A data set that fits: decoded once, living on the device, gathered there.

    Attributes:
        x: All samples (N, C, H, W), uint8 or float32 as the spec says.
        cond: Conditioning of all samples, first axis N.
        identity: Hash of the content.
        decoder: Model space to uint8 images; `quantise` unless told otherwise.
        augment: What changes training batches, if anything does.
        notices: What a run should say of the data as it starts.
    """

    x: Tensor
    spec: Spec
    identity: str
    cond: dict[str, Tensor] = attrs.field(factory=dict)
    held_out: Data | None = None
    decoder: Callable[[Tensor], Tensor] = quantise
    notices: tuple[str, ...] = ()
    augment: Callable[[Batch, Key], Batch] | None = None

    def __attrs_post_init__(self) -> None:
        if len(self.x) == 0:
            raise DataError("dataset", "has no samples", "check its path and settings")
        if tuple(self.x.shape[1:]) != self.spec.shape:
            what = f"has samples of shape {tuple(self.x.shape[1:])}"
            raise DataError("dataset", what, f"its spec says {self.spec.shape}")

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: Tensor, key: Key) -> Batch:
        indices = indices.to(self.x.device, non_blocking=True)
        cond = {name: values.index_select(0, indices) for name, values in self.cond.items()}
        return Batch(self.x.index_select(0, indices), cond)

    def decode(self, x0: Tensor) -> Tensor:
        return self.decoder(x0)


def prepare(batch: Batch, spec: Spec, key: Key) -> Batch:
    """uint8 to float32 in [-1, 1], mirrored at random where the spec allows; float data as they are."""
    if str(batch.x.dtype) != f"torch.{spec.dtype}":
        raise DataError("dataset", f"gave {batch.x.dtype}", f"its spec says {spec.dtype}")
    if spec.dtype != "uint8":
        return batch
    x = batch.x.float() / 127.5 - 1
    if spec.flip:
        mirrored = key.uniform("flip", len(x), x.device) < 0.5
        x = torch.where(expand(mirrored, x), x.flip(-1), x)
    return Batch(x, batch.cond)


def drop_labels(cond: dict[str, Tensor], chance: float, null: int, key: Key) -> dict[str, Tensor]:
    """Replace labels by the null class, each with the same chance, as guidance without a classifier needs it.

    Source: Ho & Salimans 2022 (arXiv 2207.12598), algorithm 1.
    """
    if chance == 0 or "label" not in cond:
        return cond
    label = cond["label"]
    drop = key.uniform("label", len(label), label.device) < chance
    return {**cond, "label": torch.where(drop, null, label)}


def batches(data: Data, seed: int, first: int, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
    """This rank's prepared batches of steps first, first + 1, …, read ahead where the data know how.

    Step k holds the global positions k batch_size … (k + 1) batch_size - 1, cut evenly over ranks; so are its
    draws, and any number of processes sees the same images, mirrored and augmented alike.
    """
    chosen = partial(_chosen, seed, batch_size, rank, world, len(data))
    augment, ahead = getattr(data, "augment", None), getattr(data, "ahead", None)
    read = ahead(chosen, first) if ahead else None
    for k in count(first):
        key = Key(seed, k, rank, world=world)
        prepared = prepare(next(read) if read else data.batch(chosen(k), key), data.spec, key)
        yield augment(prepared, key) if augment else prepared


def _chosen(seed: int, batch_size: int, rank: int, world: int, n: int, k: int) -> Tensor:
    """The samples that a rank has in step k."""
    share = batch_size // world
    return order(seed, k * batch_size + rank * share, share, n)
