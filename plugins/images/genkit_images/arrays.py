"""From decoded arrays to data sets: where files are, what their content is, how it is served."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genkit.data import Resident, cache_folder, hdf5
from genkit.errors import DataError, tell
from genkit.kinds import Data, Setup, Spec

Array = np.ndarray[Any, Any]
Found = dict[str, Array]
BLOCK = 1024


def located(path: str | Path, setup: Setup) -> Path:
    """A path as the user means it: `~` is home, relative paths start from the recipe's folder."""
    path = Path(path).expanduser()
    return path if path.is_absolute() or setup.folder is None else setup.folder / path


def blocks(images: Array) -> Iterator[Array]:
    """Images in runs of `BLOCK`."""
    return (images[i : i + BLOCK] for i in range(0, len(images), BLOCK))


def hashes(images: Iterable[Array]) -> Array:
    """The hashes of blocks of images, one after the other, as bytes of text.

    Args:
        images: uint8 (n, C, H, W), `BLOCK` images each and the rest last.
    """
    return joined(map(hdf5.content, images))


def joined(hashes: Iterable[str]) -> Array:
    """Hashes as one array of bytes."""
    return np.frombuffer("".join(hashes).encode(), np.uint8)


def identity(hashed: Array, labels: Array | None) -> str:
    """What the samples are, whatever holds them: a hash over the hashes of blocks of images, and labels.

    Block by block, so that an array that never fits into memory has the same identity as when it does.

    Args:
        labels: int64 (N,), or None where they are not used.
    """
    return hdf5.content(hashed, labels)


def remembered(where: Path, what: str, files: Iterable[str | Path], setup: Setup, find: Callable[[], Found]) -> Found:
    """What was found out about files that are large, for as long as their sizes and times of change stay.

    Args:
        where: How messages name them.
        what: What is found out, with every setting that it depends on.
        find: Finds it out: arrays, for an HDF5 file in the cache.
    """
    path = _memory(what, files, setup)
    if (found := _recalled(path)) is not None:
        return found
    tell(f"reading all of {where} once, to know what is in it")
    found = find()
    with suppress(DataError):  # a cache that cannot be written costs time, nothing else
        hdf5.write(path, found, {}, compress=False)
    return found


def known(what: str, files: Iterable[str | Path], setup: Setup) -> Found | None:
    """The same, where it is remembered already."""
    return _recalled(_memory(what, files, setup))


def _memory(what: str, files: Iterable[str | Path], setup: Setup) -> Path:
    digest = hashlib.sha256(what.encode())
    for file in files:
        stat = os.stat(file)
        digest.update(os.fsencode(f"\n{os.path.abspath(file)} {stat.st_size} {stat.st_mtime_ns}"))
    return (setup.cache_dir or cache_folder()) / "data" / f"known-{digest.hexdigest()[:32]}.h5"


def _recalled(path: Path) -> Found | None:
    if path.is_file():
        with suppress(DataError), hdf5.opened(path) as file:  # what is damaged is found out anew
            return {key: hdf5.read(hdf5.array(file, key)) for key in file}
    return None


def resident(
    images: Array,
    labels: Array | None,
    spec: Spec,
    setup: Setup,
    held_out: Data | None = None,
    notices: tuple[str, ...] = (),
) -> Resident:
    """Images (N, C, H, W) and labels (N,) on the device, with their identity."""
    cond = {} if labels is None else {"label": torch.from_numpy(labels).to(setup.device)}
    return Resident(
        x=torch.from_numpy(images).to(setup.device),
        spec=spec,
        identity=identity(hashes(blocks(images)), labels),
        cond=cond,
        held_out=held_out,
        notices=notices,
    )
