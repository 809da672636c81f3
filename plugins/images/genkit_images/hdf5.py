"""Images in an HDF5 file."""

from __future__ import annotations

import functools
import os
from contextlib import ExitStack
from pathlib import Path

import attrs
import h5py
import numpy as np
import torch

from genkit.data import hdf5
from genkit.errors import DataError
from genkit.kinds import Data, Setup, Spec, setting
from genkit_images import layouts
from genkit_images.arrays import Array, hashes, identity, located, remembered, resident
from genkit_images.forms import require_hdf5
from genkit_images.layouts import Part
from genkit_images.notices import few, summary
from genkit_images.pictures import decoded
from genkit_images.streaming import Large, Streamed

# Bytes held of where chunks lie: those of 1.3 million are 20 MB, and reading them again halves the speed.
TABLES = 2**26


@attrs.frozen(kw_only=True)
class Hdf5(Large):
    """Images of an HDF5 file; streamed if they are too large.

    Three layouts are known by the names of their arrays, all uint8 in 0 ... 255:

    - genkit's own: `train/images` and, never trained on, `held_out/images`, (N, C, H, W), each with
      `labels` (N,);
    - plain: `images`, or `train_images` and, never trained on, `test_images`, (N, H, W), (N, C, H, W) or
      (N, H, W, C) with 1 or 3 channels, and `labels`, `train_labels`, `test_labels`;
    - JPEG: `jpeg`, the files one after the other, `offsets` (N + 1,), where each begins and the last
      ends, and `labels` (N,); decoded once, whole.

    The classes are those that the attribute `classes` names, else as many as the largest label says.
    """

    path: Path = setting(help="the file; relative paths start from the recipe", identity=False)
    labels: bool = setting(False, "condition on the labels of the file")
    flip: bool = setting(True, "mirror half of the training images")

    def build(self, setup: Setup) -> Data:
        return self.augmented(self._read(setup))

    def _read(self, setup: Setup) -> Data:
        path = located(self.path, setup)
        require_hdf5(path)
        with hdf5.opened(path) as file:
            if layouts.has(file, "jpeg"):
                return self._jpeg(file, setup)
            train, held_out = layouts.parts(file)
            labels, classes, said = self._labels(file, train.labels, train.count)
            spec = self._spec(train.shape, classes)
            rest = self._held_out(file, held_out, spec, setup) if held_out else None
            known = train.names | (held_out.names if held_out else set())
            notices = (*layouts.left_out(file, known), *few(path, train.count), *said)
            return self._data(file, train, labels, spec, setup, rest, notices)

    def _held_out(self, file: h5py.File, part: Part, spec: Spec, setup: Setup) -> Data:
        labels, classes, _ = self._labels(file, part.labels, part.count)
        if classes > spec.classes:
            raise DataError(
                f"{file.filename}:/{part.labels}", f"has {classes} classes", f"there are {spec.classes} to train on"
            )
        return self._data(file, part, labels, spec, setup, None)

    def _data(
        self,
        file: h5py.File,
        part: Part,
        labels: Array | None,
        spec: Spec,
        setup: Setup,
        held_out: Data | None,
        notices: tuple[str, ...] = (),
    ) -> Data:
        if part.gib <= self.max_gib:
            return resident(part.read(file), labels, spec, setup, held_out, notices)
        path = Path(file.filename)
        known = remembered(
            path, f"{part.images} {part.axes}", [path], setup, lambda: {"hashes": hashes(part.blocks(file))}
        )
        return Streamed(
            rows=Rows(path, part, path.stat().st_mtime_ns),
            count=part.count,
            spec=spec,
            device=setup.device,
            workers=self.workers,
            identity=identity(known["hashes"], labels),
            held_out=held_out,
            labels=None if labels is None else torch.from_numpy(labels),
            notices=notices,
        )

    def _jpeg(self, file: h5py.File, setup: Setup) -> Data:
        pictures = layouts.jpegs(file, self.max_gib)
        labels, classes, said = self._labels(file, "labels", len(pictures))
        images, done = decoded(file.filename, pictures, limit_gib=self.max_gib)
        notices = (*summary(file.filename, len(images), {}, done), *few(file.filename, len(images)), *said)
        notices += layouts.left_out(file, layouts.STREAM)
        return resident(images, labels, self._spec(images.shape[1:], classes), setup, notices=notices)

    def _labels(self, file: h5py.File, key: str, count: int) -> tuple[Array | None, int, tuple[str, ...]]:
        return layouts.labels(file, key, count) if self.labels else (None, 0, ())

    def _spec(self, shape: tuple[int, ...], classes: int) -> Spec:
        channels, height, width = shape
        return Spec(channels=channels, height=height, width=width, classes=classes, flip=self.flip)


@attrs.frozen
class Rows:
    """Reads images of a file one by one: many times as fast as h5py by a list of indices, and checksums are checked.

    Attributes:
        part: Where the images are and how they lie.
        changed: When the file was, in ns; another file at its place is opened anew.
    """

    path: Path
    part: Part
    changed: int

    def __call__(self, indices: Array) -> Array:
        """Images by indices (n,), uint8 (n, C, H, W).

        Raises:
            DataError: One is damaged, or the file is gone.
        """
        _, stored = _stored(self, os.getpid())
        images = np.empty((len(indices), *stored.shape[1:]), np.uint8)
        for place, i in zip(images, indices.tolist(), strict=True):
            with hdf5.guarded(f"{self.path}:/{self.part.images}[{i}]"):
                place[...] = stored[i]
        return self.part.turned(images)


@functools.lru_cache(maxsize=4)
def _stored(rows: Rows, process: int) -> tuple[ExitStack, h5py.Dataset]:
    """The array of a file that this process opened for itself, and what keeps it open."""
    held = ExitStack()
    file = held.enter_context(hdf5.opened(rows.path))
    cache = file.id.get_mdc_config()
    cache.set_initial_size = True
    cache.initial_size = cache.min_size = cache.max_size = TABLES
    file.id.set_mdc_config(cache)
    return held, hdf5.array(file, rows.part.images)
