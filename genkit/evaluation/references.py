"""Reference statistics: what metrics keep of real images, in HDF5, or in the .npz files that EDM and ADM publish.

HDF5 holds arrays by the features' names (`pool/n`, `pool/mean`, `pool/covariance` over n - 1, `pool/rows`), all
with checksums, and attributes that say which features of which data they are of. The .npz layout has `mu`, `sigma`
(pool), `mu_s`, `sigma_s` (spatial) and `arr_0` (images, uint8 NHWC) of Inception's features, and does not say of
which data.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from genkit.data import hdf5
from genkit.errors import DataError

FORMAT = "genkit statistics 1"
PUBLISHED = "inception"  # whose features .npz files are of
NPZ = {
    "mu": "pool/mean",
    "sigma": "pool/covariance",
    "mu_s": "spatial/mean",
    "sigma_s": "spatial/covariance",
    "n": "pool/n",
    "arr_0": "images",
}
ASYMMETRY = 1e-6  # of the largest entry
AGAIN = "make or download it again"


@attrs.frozen(kw_only=True, eq=False)
class Statistics:
    """Arrays of real images, and what they are of; what is not known is empty.

    Attributes:
        arrays: By names such as "pool/mean"; "images" are uint8 (N, C, H, W).
        features: Name of the features component.
        hash: Of the features, with their settings and weights.
        data: Identity of the images' content.
        shape: (C, H, W) of the images.
        pipeline: How data became images.
        origin: Where they were read, for messages.
    """

    arrays: dict[str, Tensor]
    features: str
    hash: str = ""
    data: str = ""
    shape: tuple[int, ...] = ()
    pipeline: str = ""
    origin: str = "statistics"

    @property
    def samples(self) -> int:
        """How many images; 0 if that is not known."""
        return next((int(array) for name, array in sorted(self.arrays.items()) if name.endswith("/n")), 0)

    def require(self, *, shape: tuple[int, ...] = (), data: str = "", features: str = "", hash: str = "") -> None:
        """Refuse a comparison that means nothing.

        Raises:
            DataError: They are of other features, another size, or other data.
        """
        if features and features != self.features:
            raise self._refused(f"has statistics of features {self.features!r}, not of {features!r}")
        if hash and self.hash and hash != self.hash:
            raise self._refused(f"was made with features {self.features} {self.hash}, these are {hash}")
        if shape and self.shape and tuple(shape) != tuple(self.shape):
            raise self._refused(f"has statistics of {_size(self.shape)} images, these are {_size(shape)}")
        if data and self.data and data != self.data:
            raise self._refused(f"has statistics of data {self.data}, these are {data}")

    def _refused(self, what: str) -> DataError:
        return DataError(self.origin, what, "no figure would mean anything; `genkit stats make` makes fitting ones")


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def read(path: Path) -> Statistics:
    """Statistics from .h5 or .npz.

    Raises:
        DataError: The file is missing, truncated, damaged, or holds something else.
    """
    found = _read_npz(path) if path.suffix == ".npz" else _read_hdf5(path)
    _check(found)
    return found


def _read_hdf5(path: Path) -> Statistics:
    with hdf5.opened(path) as file, hdf5.guarded(path):
        about = hdf5.told(file)
        if about.get("format") != FORMAT:
            raise DataError(path, f"holds no {FORMAT}", "`genkit stats make` makes them")
        names: list[str] = []
        file.visit(lambda name: names.append(name) if hasattr(file[name], "shape") else None)
        arrays = {name: torch.from_numpy(hdf5.read(hdf5.array(file, name))) for name in names}
        if sorted(names) != json.loads(about["arrays"]):
            raise DataError(path, "lacks some of its arrays", AGAIN)
        shape = tuple(json.loads(about["shape"]))
        told = {name: str(about[name]) for name in ("features", "hash", "data", "pipeline")}
    return Statistics(arrays=arrays, shape=shape, origin=str(path), **told)


def _read_npz(path: Path) -> Statistics:
    arrays = {NPZ[name]: torch.from_numpy(values) for name, values in npz(path, tuple(NPZ)).items()}
    if "pool/n" in arrays:
        arrays["pool/n"] = arrays["pool/n"].reshape(1).long()
    if not {"pool/mean", "pool/covariance"} <= arrays.keys():
        raise DataError(path, "holds no statistics (mu and sigma)", "give EDM's or ADM's file, or `genkit stats make`")
    shape: tuple[int, ...] = ()
    if "images" in arrays:
        arrays["images"] = arrays["images"].permute(0, 3, 1, 2)
        shape = tuple(arrays["images"].shape[1:])
    return Statistics(arrays=arrays, features=PUBLISHED, shape=shape, origin=str(path))


def npz(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray[Any, Any]]:
    """Some arrays of an .npz, those that are there; nothing in it is unpickled."""
    if not path.is_file():
        raise DataError(path, "no such file", "check the path")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            hdf5.require_memory(sum(member.file_size for member in file.zip.infolist()), path, AGAIN)
            found = {name: file[name] for name in names if name in file.files}
            if texts := [name for name, values in found.items() if values.dtype.kind not in "biuf"]:
                raise ValueError(f"{texts[0]} holds no numbers")
            return found
    except DataError:
        raise
    except Exception as error:  # OSError, ValueError, zlib.error, … as the bytes happen to be
        raise DataError(path, f"cannot be read as .npz ({' '.join(str(error).split())[:120]})", AGAIN) from error


def _check(found: Statistics) -> None:
    """Finite arrays, whose shapes belong together."""
    for name, array in found.arrays.items():
        if array.is_floating_point() and not bool(torch.isfinite(array).all()):
            raise DataError(found.origin, f"{name} is not finite", AGAIN)
        if name.endswith("/mean"):
            covariance = found.arrays.get(f"{name.removesuffix('mean')}covariance")
            if array.ndim != 1 or covariance is None or covariance.shape != (len(array), len(array)):
                raise DataError(found.origin, f"{name} and its covariance do not fit", AGAIN)
            if float((covariance - covariance.T).abs().max()) > ASYMMETRY * float(covariance.abs().max()):
                raise DataError(found.origin, f"{name.removesuffix('mean')}covariance is not symmetric", AGAIN)


def write(path: Path, statistics: Statistics) -> None:
    """Statistics as .h5, whole or not at all."""
    arrays = {name: array.cpu().numpy() for name, array in statistics.arrays.items()}
    about = {
        "format": FORMAT,
        "features": statistics.features,
        "hash": statistics.hash,
        "data": statistics.data,
        "pipeline": statistics.pipeline,
        "shape": json.dumps(list(statistics.shape)),
        "arrays": json.dumps(sorted(arrays)),
    }
    hdf5.write(path, arrays, about, compress=False)


def cache_file(folder: Path, key: dict[str, Any]) -> Path:
    """Where statistics of this key are cached: named by its hash, never by a name that someone chose."""
    canonical = json.dumps({"format": FORMAT, **key}, sort_keys=True, separators=(",", ":"))
    return folder / "statistics" / f"{hashlib.sha256(canonical.encode()).hexdigest()[:20]}.h5"


def cached(path: Path) -> Statistics | None:
    """The statistics that are cached there, if any.

    Raises:
        DataError: It is damaged; says to remove it.
    """
    if not path.is_file():
        return None
    try:
        return read(path)
    except DataError as error:
        raise DataError(path, error.what, "remove it, and it is made anew") from error
