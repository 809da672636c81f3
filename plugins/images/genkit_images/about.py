"""What `genkit data info` tells: of a data set, a recipe's, a folder's, of an HDF5 file, or of arrays of numpy's."""

from __future__ import annotations

import re
import shlex
import zipfile
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from genkit.data import hdf5, named
from genkit.errors import DataError
from genkit.kernel import loading, registry, resolving, tables, toml
from genkit.keys import Key
from genkit.kinds import Data, Setup
from genkit_images import layouts, verifying
from genkit_images.forms import ENDINGS, form

SEEN = 10_000  # images that mean and deviation are of
SIDE, MOST = 32, 5000  # of what a laptop learns in minutes, and evaluates
SHORTEST, LONGEST, VISITS = 500, 12_000, 100 / 16  # steps of ict_photos, whose batch is 16; a photo is met 100 times


def about(name: str, settings: list[str]) -> dict[str, Any]:
    """What there is under a name, and what a run would say of it.

    Args:
        settings: `key=value`, of the data set.

    Raises:
        GenkitError: There is nothing, or it cannot be read; says what it is and what to do.
    """
    path = Path(name)
    if ("dataset", name) in registry.components():
        return _of_data(_built(name, settings))
    if path.is_dir() or (path.is_file() and form(path)[0] in ("a zip archive", "a tar archive")):
        found = _of_data(_built("image-folder", settings, path=name))
        return {**found, "to learn them": learning(path, found)}
    if path.is_file() and (found := _of_file(path, settings)) is not None:
        return found
    if not path.is_file() and name.endswith((".h5", ".hdf5", ".npz", *ENDINGS)):
        raise DataError(path, "no such file", "check the path")
    if settings:
        recipe = loading.load_recipe(name, [f"dataset.{setting}" for setting in settings])
        return _of_data(registry.build(recipe.dataset, Setup(**named.setup_of(recipe, "cpu"))))
    return _of_data(named.data(name, "cpu"))


def learning(folder: Path, found: dict[str, Any]) -> str:
    """A command that learns a folder's pictures: named as it is, evaluated by as many samples as there are pictures.

    It is shorter for few of them, which a network learns by heart.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._")[:100] or "photos"
    words = [f"dataset.path={folder}", f"dataset.size={min(SIDE, found['height'], found['width'])}", f"name={name}"]
    steps = max(SHORTEST, int(found["samples"] * VISITS))
    words += [f"evaluate.samples={min(found['samples'], MOST)}"] + [f"train.steps={steps}"] * (steps < LONGEST)
    return shlex.join(["genkit", "run", "ict_photos", *words])


def _of_file(path: Path, settings: list[str]) -> dict[str, Any] | None:
    """Of a file by its content; None where that may be a recipe's.

    Raises:
        DataError: It is an archive, a picture, or damaged.
    """
    what, hint = form(path)
    if what == "an HDF5 file" or path.suffix in (".h5", ".hdf5"):
        return _of_data(_built("hdf5", settings, path=str(path))) if settings else _of_hdf5(path)
    if path.suffix == ".npz":
        return _of_arrays(path)
    if what:
        raise DataError(path, f"is {what}, no data set", hint)
    return None


def _of_hdf5(path: Path) -> dict[str, Any]:
    """What is in the file by its own words, without reading images; and which of it would be used."""
    found = verifying.described(path)
    with hdf5.opened(path) as file:
        return {**found, "notices": list(layouts.used(file))}


def _built(use: str, settings: list[str], **told: str) -> Data:
    given = tables.override(tables.Layers({}, toml.Places(), set()), [f"dataset.{s}" for s in settings])
    component = resolving.component("dataset", use, **{**told, **given.tree.get("dataset", {})})
    data: Data = registry.build(component, Setup(folder=Path.cwd()))
    return data


def _of_data(data: Data) -> dict[str, Any]:
    sample = data.batch(torch.arange(min(len(data), SEEN)), Key(0))
    x = sample.x.float() / 127.5 - 1 if data.spec.dtype == "uint8" else sample.x
    return {
        "samples": len(data),
        "held out": len(data.held_out) if data.held_out else 0,
        **attrs.asdict(data.spec),
        "mean": round(x.mean().item(), 4),
        "std": round(x.std().item(), 4),
        "identity": data.identity,
        "notices": list(getattr(data, "notices", ())),
    }


def _of_arrays(path: Path) -> dict[str, Any]:
    """Shapes and types in an .npz, by the heads of its arrays: nothing else of it is unpacked, nothing unpickled.

    Raises:
        DataError: It is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy"): _head(archive, name) for name in archive.namelist()}
    except Exception as error:  # OSError, ValueError, zlib.error, ... as the bytes happen to be
        cause = " ".join(f"{error}".split())[:120]
        raise DataError(path, f"cannot be read as .npz ({cause})", hdf5.AGAIN) from error


def _head(archive: zipfile.ZipFile, name: str) -> str:
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        first = np.lib.format.read_array_header_1_0
        shape, _, dtype = (first if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
    return f"{dtype} {shape}"
