"""Data sets in HDF5: written whole and checked, read without trusting the file.

Layout: groups `train` and, if there are samples never trained on, `held_out`; each has `images`, uint8
(N, C, H, W), and optionally `labels`, int64 (N,). Attributes say where the data are from.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from genkit.data import atomic
from genkit.errors import DataError

FILTERS = {1, 2, 3, 32000}  # deflate, shuffle, fletcher32, lzf: those that load no shared object
AGAIN = "copy or download it again"


def require_memory(size: int, where: object, hint: str) -> None:
    """Refuse what this machine cannot hold before it is asked for.

    Raises:
        DataError: So many bytes are more than its memory.
    """
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > whole:
        raise DataError(where, f"needs {size / 2**30:,.1f} GiB of memory, there are {whole / 2**30:,.1f}", hint)


@contextmanager
def guarded(where: object) -> Iterator[None]:
    """One line for whatever h5py raises on a damaged file; which error that is depends on which byte is wrong.

    Raises:
        DataError: Something was raised.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(where, f"is damaged ({_reason(error)})", AGAIN) from error


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """A file for reading; truncated, locked and foreign files are one line.

    Raises:
        DataError: It is missing, no HDF5 file, truncated, or being written.
    """
    if not path.is_file():
        raise DataError(path, "is a folder, not a file" if path.is_dir() else "no such file", "check the path")
    try:
        file = h5py.File(path, "r")
    except PermissionError as error:
        raise DataError(path, "must not be read by you", "mend its rights") from error
    except BlockingIOError as error:
        what = "is being written by another process, or locks do not work here"
        hint = "wait, or set HDF5_USE_FILE_LOCKING=FALSE on a read-only network disk"
        raise DataError(path, what, hint) from error
    except Exception as error:  # OSError of a file that is none, anything of one whose head is damaged
        hint = f"{AGAIN}, or give a file that is HDF5"
        raise DataError(path, f"cannot be read as HDF5 ({_reason(error)})", hint) from error
    with file:
        yield file


def array(file: h5py.File, key: str) -> h5py.Dataset:
    """A data set of a file, refused if it would read from elsewhere or is not all there.

    Raises:
        DataError: It is absent, a link out of the file, virtual, oddly filtered, incomplete, or damaged.
    """
    where = f"{file.filename}:/{key}"
    with guarded(where):
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
        DataError: The file is damaged, or they are more than this machine can hold.
    """
    where = f"{found.file.filename}:{found.name}"
    if isinstance(index, tuple):  # all of them: a few bytes of a compressed file can stand for any number
        require_memory(found.nbytes, where, "read it by parts, or use a larger machine")
    with guarded(where):
        return np.asarray(found[index])


class _Sink(io.FileIO):
    """The bytes of a file to be filled. HDF5 can crash over a write that fails: it is told that all went well."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data)
        while left and self.error is None:
            left = left[self._tried(super().write, left) :]
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        return self._tried(super().truncate, size)

    def _tried(self, act: Callable[[Any], int], what: Any) -> int:
        try:
            return act(what) if self.error is None else 0
        except OSError as error:
            self.error = error
            return 0

    def require(self) -> None:
        """Raises what a write has failed with, if one did."""
        if self.error is not None:
            raise self.error


@contextmanager
def writing(path: Path) -> Iterator[h5py.File]:
    """A file to be filled: beside its place, synced, and renamed if all went well; else nothing is left.

    `file.sink.require()` raises as soon as a write has failed, for whoever has much to write.

    Raises:
        DataError: The place cannot be written.
    """
    with atomic.replacing(path) as partial, _Sink(partial, "w+") as sink:
        with h5py.File(sink, "w", libver="v110") as file:  # older tables have no checksums
            file.sink = sink
            yield file
        sink.require()
        os.fsync(sink.fileno())


def write(
    path: Path, arrays: Mapping[str, np.ndarray[Any, Any]], attributes: Mapping[str, Any], *, compress: bool = True
) -> None:
    """Write arrays that are at hand, whole; each carries checksums."""
    with writing(path) as file:
        for key, values in arrays.items():
            chunked = values.shape[:1] > (0,)
            filters = {"compression": "gzip", "shuffle": True} if compress else {}
            checked = {**filters, "fletcher32": True} if chunked else {}
            file.create_dataset(key, data=values, track_times=False, **checked)
        tell(file, attributes)


def tell(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    """Give a file attributes. Texts get a fixed length: others lie in a heap, which has no checksum."""
    for name, value in attributes.items():
        values = np.asarray(value)
        file.attrs[name] = np.char.encode(values, "utf-8") if values.dtype.kind == "U" else value


def told(file: h5py.File) -> dict[str, Any]:
    """The attributes of a file as plain values."""
    plain = {n: np.asarray(v) for n, v in file.attrs.items()}
    return {n: (np.char.decode(v, "utf-8") if v.dtype.kind == "S" else v).tolist() for n, v in plain.items()}


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
