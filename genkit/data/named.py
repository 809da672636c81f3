"""Data sets as people name them: an installed one, a recipe's, a folder or archive of pictures, an HDF5 file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genkit.data.files import cache_folder
from genkit.errors import RecipeError
from genkit.kernel import registry, resolving
from genkit.kernel.loading import load_recipe
from genkit.kernel.recipe import Recipe
from genkit.kinds import Data, Setup


def setup_of(recipe: Recipe, device: str) -> dict[str, Any]:
    """What a recipe tells its data set and all else: the settings of a `Setup`."""
    return {
        "device": device,
        "seed": recipe.train.seed,
        "levels": recipe.levels,
        "cache_dir": cache_folder(),
        "folder": Path.cwd(),
    }


def component_of(name: str, device: str) -> tuple[Any, Setup]:
    """A data set's component and setup, by its name, a recipe's, or the folder, archive or HDF5 file with its images.

    Raises:
        GenkitError: There is none such, or it cannot be read.
    """
    path, setup = Path(name), Setup(device=device, cache_dir=cache_folder(), folder=Path.cwd())
    if path.is_dir() or path.suffix in (".zip", ".tar"):
        made = resolving.component("dataset", "image-folder", path=str(path), held_out=0.0, flip=False)
    elif path.suffix in (".h5", ".hdf5"):
        made = resolving.component("dataset", "hdf5", path=str(path), flip=False)
    elif ("dataset", name) in registry.components():
        made = resolving.component("dataset", name)
    else:
        try:
            recipe = load_recipe(name)
        except RecipeError as error:
            hint = "`genkit components list dataset`; other archives are to be unpacked first"
            raise RecipeError(name, "is no data set, recipe, folder or file", hint) from error
        made, setup = recipe.dataset, Setup(**setup_of(recipe, device))
    return made, setup


def data(name: str, device: str) -> Data:
    """A data set by its name, a recipe's, or a file's.

    Raises:
        GenkitError: There is none such, or it cannot be read.
    """
    found: Data = registry.build(*component_of(name, device))
    return found
