"""Images in an HDF5 file."""

from __future__ import annotations

from pathlib import Path

import attrs
import h5py
import torch
from torch import Tensor

from genkit.data import Streamed, hdf5
from genkit.errors import DataError
from genkit.keys import Key
from genkit.kinds import Batch, Data, Setup, Spec, setting
from genkit_images import layouts
from genkit_images.arrays import Array, identity, located, resident
from genkit_images.augment import Augmented
from genkit_images.forms import require_hdf5
from genkit_images.layouts import Part
from genkit_images.notices import few, summary
from genkit_images.pictures import decoded


@attrs.frozen(kw_only=True)
class Hdf5(Augmented):
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
    max_gib: float = setting(
        4.0,
        "GiB of decoded images; more are streamed from the file (JPEG: refused)",
        check=attrs.validators.ge(0),
        identity=False,
    )

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
        return Rows(
            path=Path(file.filename),
            group="",
            part=part,
            count=part.count,
            spec=spec,
            device=setup.device,
            identity=identity(part.blocks(file), labels),
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


@attrs.frozen(kw_only=True, eq=False)
class Rows(Streamed):
    """Streamed from arrays of any of the layouts; `group` is not used.

    Attributes:
        part: Where the images are and how they lie.
    """

    part: Part

    def batch(self, indices: Tensor, key: Key) -> Batch:
        rows, back = indices.unique(return_inverse=True)  # h5py wants indices that ascend
        with hdf5.opened(self.path) as file:
            images = self.part.read(file, rows.numpy())
        x = torch.from_numpy(images)[back].to(self.device, non_blocking=True)
        cond = {} if self.labels is None else {"label": self.labels[indices].to(self.device)}
        return Batch(x, cond)
