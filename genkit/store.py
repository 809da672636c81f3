"""Data sets in HDF5: written whole and checked, read without trusting the file.

Layout: groups `train` and, if there are samples never trained on, `held_out`; each has `images`, uint8
(N, C, H, W), and optionally `labels`, int64 (N,). Attributes say where the data are from.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from genkit.errors import DataError

FILTERS = {"gzip", "lzf", None}


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
        raise DataError(path, "is being written by another process, or locks do not work here",
                        "wait, or set HDF5_USE_FILE_LOCKING=FALSE on a read-only network disk") from error
    except OSError as error:
        raise DataError(path, f"cannot be read as HDF5 ({_reason(error)})", "copy or download it again") from error
    with file:
        yield file


def array(file: h5py.File, key: str) -> h5py.Dataset:
    """A data set of a file, refused if it would read from elsewhere or cannot fit the file.

    Raises:
        DataError: It is absent, a link out of the file, virtual, oddly filtered, or not all there.
    """
    where = f"{file.filename}:/{key}"
    parts = key.split("/")
    for i in range(1, len(parts) + 1):
        prefix = "/".join(parts[:i])
        if prefix not in file:
            raise DataError(where, "is not in the file", f"it has {', '.join(sorted(file)) or 'nothing'}")
        if not isinstance(file.get(prefix, getlink=True), h5py.HardLink):
            raise DataError(where, "is a link", "store the data in the file itself")
    found = file[key]
    if not isinstance(found, h5py.Dataset):
        raise DataError(where, "is a group, not an array", "name an array")
    if found.external or found.is_virtual:
        raise DataError(where, "keeps its data in other files", "store the data in the file itself")
    if found.compression not in FILTERS:
        raise DataError(where, f"uses filter {found.compression!r}", "rewrite it with gzip or without")
    if found.size and found.id.get_storage_size() == 0:
        raise DataError(where, "was never written", "pack the data again")
    return found


def read(found: h5py.Dataset, index: Any = ()) -> np.ndarray[Any, Any]:
    """The values; a checksum that does not match is one line.

    Raises:
        DataError: The file is damaged.
    """
    try:
        return np.asarray(found[index])
    except OSError as error:
        raise DataError(f"{found.file.filename}:{found.name}", f"is damaged ({_reason(error)})",
                        "copy or download it again") from error


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


def _reason(error: OSError) -> str:
    return " ".join(str(error).split())[:160]
