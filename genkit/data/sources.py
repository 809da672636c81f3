"""Batches of a data set: resident on the device or streamed, in an order that is a function of k."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path

import attrs
import torch
from torch import Tensor

from genkit.data import hdf5
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


@attrs.frozen(kw_only=True, eq=False)
class Streamed:
    """A data set that does not fit: `images` (uint8, N C H W) and `labels` of an HDF5 file, read by index.

    The file is opened for each batch, so that no handle is shared between threads or processes.
    """

    path: Path
    group: str
    count: int
    spec: Spec
    identity: str
    device: str = "cpu"
    labels: Tensor | None = None
    held_out: Data | None = None
    notices: tuple[str, ...] = ()
    augment: Callable[[Batch, Key], Batch] | None = None

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Tensor, key: Key) -> Batch:
        rows, back = torch.unique(indices, return_inverse=True)
        with hdf5.opened(self.path) as file:
            images = hdf5.read(hdf5.array(file, f"{self.group}/images"), rows.numpy())
        x = torch.from_numpy(images)[back].to(self.device, non_blocking=True)
        cond = {} if self.labels is None else {"label": self.labels[indices].to(self.device)}
        return Batch(x, cond)

    def decode(self, x0: Tensor) -> Tensor:
        return quantise(x0)


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
    """This rank's prepared batches of steps first, first + 1, …, the next one read ahead if streamed.

    Step k holds the global positions k batch_size … (k + 1) batch_size - 1, cut evenly over ranks; so are its
    draws, and any number of processes sees the same images, mirrored and augmented alike.
    """
    share, augment = batch_size // world, getattr(data, "augment", None)

    def read(k: int) -> Batch:
        indices = order(seed, k * batch_size + rank * share, share, len(data))
        return data.batch(indices, Key(seed, k, rank, world=world))

    reader = _ahead(read, first) if isinstance(data, Streamed) else map(read, count(first))
    for k, batch in zip(count(first), reader, strict=False):
        prepared = prepare(batch, data.spec, key := Key(seed, k, rank, world=world))
        yield augment(prepared, key) if augment else prepared


def _ahead(read: Callable[[int], Batch], k: int) -> Iterator[Batch]:
    with ThreadPoolExecutor(1) as pool:
        coming: Future[Batch] = pool.submit(read, k)
        for after in count(k + 1):
            batch, coming = coming.result(), pool.submit(read, after)
            yield batch
