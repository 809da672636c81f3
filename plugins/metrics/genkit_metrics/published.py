"""Statistics and samples in the .npz layouts that EDM and ADM publish, beside genkit's own in HDF5."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genkit.data import atomic, hdf5
from genkit.errors import DataError
from genkit.evaluation import references
from genkit.evaluation.references import Statistics


def is_statistics(path: Path) -> bool:
    """Whether a file holds statistics rather than images; it is read only as far as needed."""
    if path.suffix == ".npz":
        return bool({"mu", "mu_s"} & references.npz(path, ("mu", "mu_s")).keys())
    if path.suffix not in (".h5", ".hdf5"):
        return False
    with hdf5.opened(path) as file, hdf5.guarded(path):
        return str(hdf5.told(file).get("format", "")).startswith("genkit statistics")


def images(path: Path) -> Tensor:
    """The samples of an .npz, `arr_0`: (N, C, H, W), uint8, or float in [-1, 1].

    Raises:
        DataError: There are none, or they have another layout.
    """
    found = references.npz(path, ("arr_0",)).get("arr_0")
    if found is None:
        raise DataError(path, "has no arr_0", "ADM's layout has samples there, uint8 (N, H, W, C)")
    if found.ndim != 4 or found.shape[3] not in (1, 3) or found.dtype not in (np.uint8, np.float32, np.float64):
        given = f"arr_0 is {found.dtype} of shape {found.shape}"
        raise DataError(path, given, "give uint8 (N, H, W, C) with 1 or 3 channels")
    return torch.from_numpy(found).permute(0, 3, 1, 2).contiguous()


def write(path: Path, statistics: Statistics) -> None:
    """Statistics as .h5 or .npz, whole or not at all.

    Raises:
        DataError: The name ends otherwise, or .npz cannot hold these.
    """
    if path.suffix == ".npz":
        _write_npz(path, statistics)
    elif path.suffix in (".h5", ".hdf5"):
        references.write(path, statistics)
    else:
        raise DataError(path, "is neither .h5 nor .npz", "name one of these")


def _write_npz(path: Path, statistics: Statistics) -> None:
    if statistics.features != references.PUBLISHED:
        what = f".npz is for Inception's features, these are of {statistics.features!r}"
        raise DataError(path, what, "name a .h5")
    back = {ours: theirs for theirs, ours in references.NPZ.items()}
    arrays = {back[name]: array.cpu().numpy() for name, array in statistics.arrays.items() if name in back}
    if "arr_0" in arrays:
        arrays["arr_0"] = np.ascontiguousarray(arrays["arr_0"].transpose(0, 2, 3, 1))
    with atomic.replacing(path) as partial, partial.open("wb") as out:
        np.savez(out, allow_pickle=False, **arrays)
