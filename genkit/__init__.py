"""genkit trains few-step generative models from small recipes; every choice is a plugin component."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "GenkitError": "errors", "Key": "keys", "Levels": "levels", "Denoiser": "denoiser", "Program": "denoiser",
    "Loss": "denoiser", "Scalings": "denoiser", "Spec": "kinds", "Setup": "kinds", "Context": "kinds",
    "Batch": "kinds", "hookimpl": "hookspecs", "lazy": "hookspecs", "component": "registry", "build": "registry",
    "components": "registry", "ComponentInfo": "registry", "load_recipe": "recipe", "recipe_of": "recipe",
    "Recipe": "recipe", "State": "state", "train": "training", "sample": "sampling", "picture": "pictures",
    "run": "experiment", "load": "models", "RunResult": "experiment", "evaluate": "measure",
    "ablate": "studies",
}  # fmt: skip
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - names of the table above


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'genkit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"genkit.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
