"""What an HDF5 file holds, by its own words, and whether each byte of it can be read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from genkit.data import hdf5

BLOCK_BYTES = 2**26


def described(path: Path) -> dict[str, Any]:
    """What a file says it has: shape and type of every array, and the file's attributes.

    Raises:
        DataError: It is damaged, or no HDF5 file.
    """
    with hdf5.opened(path) as file, hdf5.guarded(path):
        names: list[str] = []
        file.visit(names.append)  # below groups, too; links out of the file are not followed
        arrays = [name for name in names if file.get(name, getclass=True) is h5py.Dataset]
        return {**{name: f"{file[name].dtype} {file[name].shape}" for name in arrays}, **hdf5.told(file)}


def verify(path: Path) -> dict[str, str]:
    """Read every array of a file, checksums included; gives the identity of each array's content.

    Raises:
        DataError: One is damaged, incomplete, or would read from elsewhere.
    """
    found = {}
    with hdf5.opened(path) as file, hdf5.guarded(path):
        for name in [n for n in described(path) if n in file]:
            whole = hdf5.array(file, name)
            digest = hashlib.sha256(f"{whole.dtype.str}{whole.shape}".encode())
            step = max(1, BLOCK_BYTES // max(1, whole.nbytes // max(1, len(whole)))) if whole.shape else 1
            for i in range(0, len(whole) if whole.shape else 1, step):
                values = np.ascontiguousarray(hdf5.read(whole, slice(i, i + step) if whole.shape else ()))
                digest.update(str(values.tolist()).encode() if values.dtype.hasobject else values.data)  # texts
            found[name] = digest.hexdigest()[:16]
    return found
