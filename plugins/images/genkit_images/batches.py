"""Published archives of images: Python batches of CIFAR-10 and of the downsampled ImageNet, and IDX files."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from genkit.data import hdf5
from genkit.errors import DataError
from genkit_images.arrays import Array
from genkit_weights import pickles


class _Dtype:
    """What a type of numpy's in a pickle becomes: plain numbers only."""

    def __init__(self, name: str, *ignored: Any) -> None:
        self.name, self.order = str(name), "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def real(self) -> np.dtype[Any]:
        found = np.dtype(self.name).newbyteorder(self.order)
        if found.kind not in "uif":
            raise ValueError(f"an array of {self.name} is no array of numbers")
        return found


class _Array:
    """What an array of numpy's in a pickle becomes."""

    def __init__(self, *ignored: Any) -> None:
        self.values: Array = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, columns_first, raw = state
        self.values = _filled(raw, dtype, shape, "F" if columns_first else "C")


def _filled(raw: str | bytes, dtype: _Dtype, shape: tuple[int, ...], order: Any) -> Array:
    content = raw.encode("latin1") if isinstance(raw, str) else raw
    return np.frombuffer(content, dtype.real()).reshape(shape, order=order)


def _buffered(raw: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    """As protocol 5 has arrays."""
    made = _Array()
    made.values = _filled(bytes(raw), dtype, shape, order)
    return made


def batch(stream: BinaryIO, where: object) -> tuple[Array, Array]:
    """Images, uint8 (n, C, H, W), and labels, int64 (n,), of a pickled batch: rows of three square planes.

    Raises:
        DataError: It is damaged, names anything but arrays of numbers, or has no such rows.
    """
    module = ("numpy.core.multiarray", "numpy._core.multiarray")
    table = {
        **{f"{name}._reconstruct": lambda *ignored: _Array() for name in module},
        **{f"{name}.scalar": lambda *ignored: None for name in module},
        **{f"{name.replace('multiarray', 'numeric')}._frombuffer": _buffered for name in module},
        "numpy.ndarray": type("ndarray", (), {}),
        "numpy.dtype": type("dtype", (_Dtype,), {}),
        "_codecs.encode": lambda text, *ignored: text.encode("latin1"),
    }
    found = pickles.read(stream, table, where)
    told = found if isinstance(found, dict) else {}
    rows = told.get("data")
    return rows_of(rows.values if isinstance(rows, _Array) else rows, told.get("labels"), where)


def rows_of(rows: Any, labels: Any, where: object) -> tuple[Array, Array]:
    """Images and labels of rows, as the archives have them, checked."""
    if isinstance(labels, _Array):
        labels = labels.values
    side = round((rows.shape[1] / 3) ** 0.5) if isinstance(rows, np.ndarray) and rows.ndim == 2 else 0
    if not side or rows.dtype != np.uint8 or rows.shape[1] != 3 * side * side:
        raise DataError(where, "has no rows of three square planes, uint8, under 'data'", "use a published batch")
    try:
        numbers = np.asarray(labels, np.int64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.zeros(0, np.int64)
    if numbers.shape != (len(rows),):
        raise DataError(where, f"has {len(rows)} images and labels of shape {numbers.shape}", "use a published batch")
    return rows.reshape(-1, 3, side, side), numbers


def idx(path: Path, axes: int) -> Array:
    """The array of a gzipped IDX file of bytes, uint8, with so many axes.

    Raises:
        DataError: It is no such file, or truncated.
    """
    head, again = 4 + 4 * axes, "remove it and fetch it again"
    try:
        with gzip.open(path, "rb") as file:
            raw = file.read(head)
            if raw[:4] != bytes((0, 0, 8, axes)) or len(raw) < head:
                raise DataError(path, f"is no IDX file of bytes with {axes} axes", again)
            shape = np.frombuffer(raw, ">i4", axes, offset=4).tolist()
            whole = math.prod(shape) if min(shape) >= 0 else 0
            hdf5.require_memory(whole, path, again)
            values = np.frombuffer(file.read(whole + 1), np.uint8)  # no more than it says, whatever is packed there
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise DataError(path, f"cannot be unpacked ({error})", again) from error
    if min(shape) < 0 or values.size != whole:
        raise DataError(path, f"has {values.size} bytes for shape {tuple(shape)}", again)
    return values.reshape(shape)
