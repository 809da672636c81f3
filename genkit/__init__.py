"""genkit trains few-step generative models from small recipes; every choice is a plugin component."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "GenkitError": "errors", "hookimpl": "hookspecs", "lazy": "hookspecs",
    "Spec": "kinds", "Setup": "kinds", "Context": "kinds", "Batch": "kinds",
    "Key": "keys", "Levels": "levels", "Denoiser": "denoiser", "Program": "denoiser", "Loss": "denoiser",
    "Scalings": "denoiser", "component": "kernel.resolving", "build": "kernel.registry",
    "components": "kernel.registry", "ComponentInfo": "kernel.registry", "Recipe": "kernel.recipe",
    "load_recipe": "kernel.loading", "recipe_of": "kernel.loading", "State": "training.state",
    "train": "training.step", "sample": "evaluation.sampling", "picture": "evaluation.pictures",
    "run": "runs.running", "RunResult": "runs.running", "load": "runs.models",
}  # fmt: skip
# Homes in distributions of their own, such as genkit-lab-studies.
_PLUGINS = {
    "ablate": "genkit_studies.ablation", "evaluate": "genkit_metrics.evaluating", "register": "genkit_own.registering",
    "save": "genkit_runs.saving", "show": "genkit_reports.notebook",
}  # fmt: skip
__all__ = ["__version__", *_HOMES, *_PLUGINS]  # noqa: PLE0604 - names of the tables above


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"genkit.{_HOMES[name]}"), name)
    if name in _PLUGINS:
        return _of_plugin(name, _PLUGINS[name])
    raise AttributeError(f"module 'genkit' has no attribute {name!r}")


def _of_plugin(name: str, home: str) -> Any:
    package = home.partition(".")[0]
    try:
        return getattr(importlib.import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        distribution = package.replace("genkit_", "genkit-lab-")
        what = f"genkit.{name} is provided by {distribution}, which is not installed"
        raise AttributeError(f"{what}; install it, for instance from plugins/ of a checkout") from None


def __dir__() -> list[str]:
    return sorted(__all__)
