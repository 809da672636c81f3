"""How images lie in an HDF5 file: which arrays, which axes, which labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import attrs
import h5py
import numpy as np

from genkit.data import hdf5
from genkit.errors import DataError
from genkit_images.arrays import BLOCK, Array
from genkit_images.members import Picture
from genkit_images.notices import listed

STREAM = {"jpeg", "offsets", "labels"}
MOST = 100_000  # classes; more must be as many as there are images, or a label was meant as something else
NAMES = (
    (("train/images", "train/labels"), ("held_out/images", "held_out/labels")),
    (("train_images", "train_labels"), ("test_images", "test_labels")),
    (("images", "labels"), None),
)


@attrs.frozen(kw_only=True)
class Part:
    """Images and labels of a file that belong together.

    Attributes:
        images, labels: Names of the arrays; the latter need not be there.
        count: Number of images.
        shape: (C, H, W), however they lie in the file.
        axes: How they do: "NCHW", "NHWC" or "NHW".
    """

    images: str
    labels: str
    count: int
    shape: tuple[int, int, int]
    axes: str

    @property
    def names(self) -> set[str]:
        return {self.images, self.labels}

    @property
    def gib(self) -> float:
        return self.count * int(np.prod(self.shape)) / 2**30

    def read(self, file: h5py.File, rows: Any = ()) -> Array:
        """Images by rows (a slice, ascending indices, or all), uint8 (n, C, H, W)."""
        return self.turned(hdf5.read(hdf5.array(file, self.images), rows))

    def turned(self, images: Array) -> Array:
        """Images as they lie in the file, as (n, C, H, W)."""
        if self.axes == "NHW":
            return images[:, None]
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if self.axes == "NHWC" else images

    def blocks(self, file: h5py.File) -> Iterator[Array]:
        return (self.read(file, slice(i, i + BLOCK)) for i in range(0, self.count, BLOCK))


def has(file: h5py.File, key: str) -> bool:
    """Whether the file has an array or a group of that name.

    Raises:
        DataError: Its table of contents is damaged.
    """
    with hdf5.guarded(file.filename):
        return key in file


def parts(file: h5py.File) -> tuple[Part, Part | None]:
    """The training part, and the one never trained on where the file has one.

    Raises:
        DataError: The file has no images under a known name, or they are none.
    """
    for (images, labels), aside in NAMES:
        if has(file, images):
            train = _part(file, images, labels)
            held_out = _part(file, *aside) if aside and has(file, aside[0]) else None
            if held_out and held_out.shape != train.shape:
                raise DataError(
                    f"{file.filename}:/{held_out.images}",
                    f"has images of shape {held_out.shape}",
                    f"those of {images} are {train.shape}",
                )
            return train, held_out
    known = ", ".join(["jpeg", *(train[0] for train, _ in NAMES)])
    raise DataError(file.filename, "has no images under a known name", f"genkit reads {known}")


def _part(file: h5py.File, images: str, labels: str) -> Part:
    found = hdf5.array(file, images)
    where = f"{file.filename}:/{images}"
    if found.dtype != np.uint8:
        raise DataError(where, f"is {found.dtype}, not uint8", "store images as uint8 in 0 ... 255")
    axes = "NCHW" if "/" in images and found.ndim == 4 else _axes(found.shape)
    if axes is None or 0 in found.shape:
        raise DataError(
            where,
            f"of shape {found.shape} is no set of images",
            "use (N, C, H, W), (N, H, W, C) or (N, H, W), with 1 or 3 channels",
        )
    n, *rest = found.shape
    shape = {"NHW": (1, *rest), "NHWC": (*rest[2:], *rest[:2]), "NCHW": tuple(rest)}[axes]
    return Part(images=images, labels=labels, count=n, shape=shape, axes=axes)


def _axes(shape: tuple[int, ...]) -> str | None:
    """Which axis has 1 or 3 entries, and so is the channels; None where neither or both have."""
    if len(shape) == 3:
        return "NHW"
    if len(shape) != 4 or (shape[1] in (1, 3)) == (shape[3] in (1, 3)):
        return None
    return "NCHW" if shape[1] in (1, 3) else "NHWC"


def left_out(file: h5py.File, known: set[str]) -> tuple[str, ...]:
    """A line that names the arrays and groups beside the known ones, which are not read."""
    with hdf5.guarded(file.filename):
        groups = {name.rpartition("/")[0] for name in known} - {""}
        inside = {f"{group}/{name}" for group in groups if group in file for name in file[group]}
        names = sorted({*file, *inside} - groups - known)
    return (f"{file.filename}: left out: {listed(names)}",) if names else ()


def used(file: h5py.File) -> tuple[str, ...]:
    """What the data set hdf5 would take of a file and what it would not; nothing of a file of something else."""
    if has(file, "jpeg"):
        return "used as images: the stream jpeg", *left_out(file, STREAM)
    with suppress(DataError):
        train, held_out = parts(file)
        known = train.names | (held_out.names if held_out else set())
        aside = f"; held out: {held_out.images}" if held_out else ""
        return f"used as images: {train.images}{aside}", *left_out(file, known)
    return ()


def labels(file: h5py.File, key: str, count: int) -> tuple[Array, int, tuple[str, ...]]:
    """Labels, int64 (N,), how many classes, as the attribute `classes` names or the largest plus one, and notices.

    Raises:
        DataError: They are absent, not one integer for each image, beyond the classes, or too large to count by.
    """
    where = f"{file.filename}:/{key}"
    found = hdf5.array(file, key)
    if found.shape != (count,) or found.dtype.kind not in "iu":
        raise DataError(where, f"is {found.dtype} of shape {found.shape}", f"labels are {count} integers")
    return counted(where, hdf5.read(found), _named(file))


def counted(where: str, values: Array, named: int = 0) -> tuple[Array, int, tuple[str, ...]]:
    """The same of labels that are at hand.

    Args:
        named: How many classes have names; 0 if none do.

    Raises:
        DataError: They are beyond the classes, or too large to count by.
    """
    least, largest = int(values.min()), int(values.max())
    classes = named or largest + 1
    if least < 0 or largest >= classes:
        raise DataError(where, f"has labels {least} ... {largest}", f"there are {classes} classes")
    if classes > max(MOST, len(values)):
        what = f"has labels up to {largest}, and {classes} classes for {len(values)} images would fill the memory"
        raise DataError(where, what, "number the classes 0, 1, ...: numpy.unique(labels, return_inverse=True)[1]")
    values = values.astype(np.int64)
    return values, classes, _odd(where, np.bincount(values, minlength=classes))


def _odd(where: str, counts: Array) -> tuple[str, ...]:
    """Notices of classes that no image has; a network learns nothing for them."""
    empty = np.flatnonzero(counts == 0).tolist()
    if empty == [0]:
        return (f"{where}: labels begin at 1, so class 0 has no images; subtract 1 to number them from 0",)
    if not empty:
        return ()
    what = f"{where}: {len(empty)} of {len(counts)} classes have no images"
    return (f"{what}: {listed([str(i) for i in empty])}; leave them out, or number the others 0, 1, ...",)


def _named(file: h5py.File) -> int:
    """How many classes the attribute `classes` names; 0 without one."""
    with hdf5.guarded(f"{file.filename}: attribute classes"):
        return np.size(file.attrs["classes"]) if "classes" in file.attrs else 0


def jpegs(file: h5py.File, limit_gib: float) -> list[Picture]:
    """Pictures of the JPEG layout: `jpeg`, all files one after the other, and `offsets`, (N + 1,).

    Raises:
        DataError: The arrays do not fit each other, or are above the limit.
    """
    stream, offsets = hdf5.array(file, "jpeg"), hdf5.array(file, "offsets")
    if stream.dtype != np.uint8 or stream.ndim != 1:
        raise DataError(f"{file.filename}:/jpeg", f"is {stream.dtype} of shape {stream.shape}", "use uint8, one axis")
    if stream.size / 2**30 > limit_gib:
        raise DataError(f"{file.filename}:/jpeg", f"is above {limit_gib:g} GiB", "raise dataset.max_gib")
    ends = hdf5.read(offsets) if offsets.ndim == 1 and offsets.dtype.kind in "iu" else np.zeros(0, np.int64)
    ends = ends.astype(np.int64)
    if len(ends) < 2 or ends[0] < 0 or ends[-1] > stream.size or (np.diff(ends) <= 0).any():
        raise DataError(
            f"{file.filename}:/offsets",
            f"does not cut {stream.size} bytes into pictures",
            "use ascending integers, one more than there are pictures",
        )
    data = hdf5.read(stream)
    cuts = enumerate(itertools.pairwise(ends))
    return [Picture(f"{file.filename}:/jpeg[{i}]", data[a:b].tobytes()) for i, (a, b) in cuts]
