"""Data sets in HDF5: written whole and checked, read without trusting the file.

Layout: groups `train` and, if there are samples never trained on, `held_out`; each has `images`, uint8
(N, C, H, W), and optionally `labels`, int64 (N,). Attributes say where the data are from.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from genkit.errors import DataError

FILTERS = {1, 2, 3, 32000}  # deflate, shuffle, fletcher32, lzf: those that load no shared object


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """A file for reading; truncated, locked and foreign files are one line.

    Raises:
        DataError: It is missing, no HDF5 file, truncated, or being written.
    """
    if not path.is_file():
        raise DataError(path, "no such file", "check the path")
    try:
        file = h5py.File(path, "r")
    except BlockingIOError as error:
        raise DataError(
            path,
            "is being written by another process, or locks do not work here",
            "wait, or set HDF5_USE_FILE_LOCKING=FALSE on a read-only network disk",
        ) from error
    except OSError as error:
        raise DataError(path, f"cannot be read as HDF5 ({_reason(error)})", "copy or download it again") from error
    with file:
        yield file


def array(file: h5py.File, key: str) -> h5py.Dataset:
    """A data set of a file, refused if it would read from elsewhere or is not all there.

    Raises:
        DataError: It is absent, a link out of the file, virtual, oddly filtered, incomplete, or damaged.
    """
    where = f"{file.filename}:/{key}"
    try:
        return _array(file, key, where)
    except (OSError, RuntimeError, KeyError, TypeError) as error:  # h5py on damaged files
        raise DataError(where, f"is damaged ({_reason(error)})", "copy or download it again") from error


def _array(file: h5py.File, key: str, where: str) -> h5py.Dataset:
    parts = key.split("/")
    for i in range(1, len(parts) + 1):
        prefix = "/".join(parts[:i])
        if prefix not in file:
            raise DataError(where, "is not in the file", f"it has {', '.join(sorted(map(str, file))) or 'nothing'}")
        if not isinstance(file.get(prefix, getlink=True), h5py.HardLink):
            raise DataError(where, "is a link", "store the data in the file itself")
    found = file[key]
    if not isinstance(found, h5py.Dataset):
        raise DataError(where, "is a group, not an array", "name an array")
    if found.external or found.is_virtual:
        raise DataError(where, "keeps its data in other files", "store the data in the file itself")
    properties = found.id.get_create_plist()
    if not {properties.get_filter(i)[0] for i in range(properties.get_nfilters())} <= FILTERS:
        raise DataError(where, "is compressed by something that could load code", "rewrite it with gzip or without")
    if found.size and not _complete(found):
        raise DataError(where, "was never written, or not all of it", "pack the data again")
    return found


def _complete(found: h5py.Dataset) -> bool:
    """Whether every declared value is stored; HDF5 would read the others as zeros."""
    if not found.chunks:
        return bool(found.id.get_storage_size() >= found.nbytes)
    declared = math.prod(-(-side // chunk) for side, chunk in zip(found.shape, found.chunks, strict=True))
    return bool(found.id.get_num_chunks() == declared)


def read(found: h5py.Dataset, index: Any = ()) -> np.ndarray[Any, Any]:
    """The values; a checksum that does not match is one line.

    Raises:
        DataError: The file is damaged.
    """
    try:
        return np.asarray(found[index])
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{found.file.filename}:{found.name}", f"is damaged ({_reason(error)})", "copy or download it again"
        ) from error


def write(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]], attributes: Mapping[str, Any]) -> None:
    """Write a file whole: beside its place, synced, then renamed; every array carries checksums."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with h5py.File(partial, "w") as file:
        for key, values in arrays.items():
            chunked = values.shape[:1] > (0,)
            compact = {"compression": "gzip", "shuffle": True, "fletcher32": True} if chunked else {}
            file.create_dataset(key, data=values, track_times=False, **compact)
        file.attrs.update(attributes)
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.rename(path)


def content(*parts: np.ndarray[Any, Any] | None) -> str:
    """Identity of arrays: 16 hex of SHA-256 over dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for part in parts:
        if part is not None:
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()[:16]


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
