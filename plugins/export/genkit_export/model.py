"""What is exported: a denoiser, and what a file of it tells of where it comes from."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

import genkit
from genkit.data import records, weights
from genkit.denoiser import Denoiser, Program
from genkit.errors import DataError, GenkitError
from genkit.kernel import registry, resolving
from genkit.kernel.loading import resolved
from genkit.kernel.recipe import Recipe
from genkit.kernel.tables import Layers
from genkit.kernel.toml import Place, Places, hoist
from genkit.kinds import Context, Spec
from genkit.levels import Levels
from genkit.runs import models, store
from genkit.training import checkpoint

Told = Mapping[str, str]
PROVENANCE = ("git", "torch", "python", "plugins", "device", "samples", "parameters")


@attrs.frozen(kw_only=True)
class Model:
    """A trained model.

    Attributes:
        folder: The run that it is of.
        told: What stands beside its weights in every form, texts by name: `network`, `tables` and `spec` as
            `genkit weights convert` has them; `recipe`, resolved; `name`, `id`, `k` and `weights` of the run; `data`,
            the identity of what it learnt; `made_with`; `license`, where it is told.
    """

    denoiser: Denoiser
    recipe: Recipe
    folder: Path
    told: dict[str, str]

    @property
    def state(self) -> dict[str, Tensor]:
        """The weights of its network."""
        return self.denoiser.network.state_dict()


def of_run(run: str | Path, weights: str = "ema", at: str = "latest", license: str = "") -> Model:
    """The model of a run, on the CPU.

    Args:
        license: Of its weights, by its SPDX name.

    Raises:
        GenkitError: There is no such run, checkpoint or average.
    """
    folder, recipe = models.reopen(run, lenient=True)
    lock = records.read(folder / "lock.json")
    told = {
        "network": json.dumps(resolving.plain(recipe.objective.network)),
        "tables": json.dumps({"levels": resolving.plain(recipe.levels)}),
        "spec": json.dumps(lock["spec"]),
        "recipe": (folder / "recipe.toml").read_text("utf-8"),
        "name": recipe.name,
        "id": str(lock["id"]),
        "k": str(checkpoint.step_of(checkpoint.chosen(folder / "checkpoints", at))),
        "weights": weights,
        "data": str(lock["data"]),
        "genkit": genkit.__version__,
        "made_with": json.dumps({name: lock[name] for name in PROVENANCE if lock.get(name)}),
    }
    told |= {"license": license} if license else {}
    denoiser = models.load(folder, weights, "cpu", at).requires_grad_(False)
    return Model(denoiser=denoiser, recipe=recipe, folder=folder, told=told)


def evaluations(made: Model) -> list[dict[str, Any]]:
    """The evaluations on record of these weights at this step, that of the recipe first."""
    found = store.evaluations(made.folder)
    at = (made.told["k"], made.told["weights"])
    return [one for one in found if (str(one.get("k")), one.get("protocol", {}).get("weights")) == at]


def rebuilt(told: Told, state: Mapping[str, Tensor], where: Path) -> Denoiser:
    """The denoiser of weights by what is told of them; it has their recipe as `recipe`, if they tell one.

    Raises:
        DataError: They do not tell what network they are for and how it is sampled, or do not fit it.
        GenkitError: A component is not installed.
    """
    recipe = recipe_of(told, where)
    try:
        spec, tables = spec_of(told, where), json.loads(told.get("tables", "{}"))
        if recipe is None:
            slots = {name: table for name, table in tables.items() if name not in ("objective", "levels")}
            objective = {**tables["objective"], **slots, "network": json.loads(told["network"])}
            component, levels = (
                resolving.component("objective", objective.pop("use"), **objective),
                tables.get("levels"),
            )
            steps, levels = 1, Levels(**(levels or {}))
        else:
            component, levels, steps = recipe.objective, recipe.levels, recipe.train.steps
    except (KeyError, TypeError, ValueError) as error:
        hint = "a run can start from it: init.from"
        raise DataError(where, f"does not tell how its network is sampled ({error})", hint) from error
    context = Context(spec=spec, levels=levels, total_steps=steps, training=False, data=told.get("data", ""))
    with torch.random.fork_rng(devices=[]):
        program: Program = registry.build(component, context)
    weights.fit(program.student.network, state, where)
    program.student.network.load_state_dict(state)
    program.student.objective = component
    return described(program.student, recipe)


def described(denoiser: Denoiser, recipe: Recipe | None) -> Denoiser:
    """A denoiser that has the recipe that it was trained by as `recipe`, where `genkit evaluate` looks for it."""
    denoiser.recipe = recipe  # type: ignore[assignment]
    return denoiser.requires_grad_(False).eval()


def recipe_of(told: Told, where: Path) -> Recipe | None:
    """The recipe that stands beside weights; components that are not installed have a stand-in.

    Raises:
        GenkitError: It cannot be read.
    """
    if "recipe" not in told:
        return None
    try:
        tree: dict[str, Any] = tomllib.loads(told["recipe"])
    except ValueError as error:
        raise DataError(where, f"its recipe is damaged ({error})", "export it again") from error
    for name in ("init", "trackers"):  # what it started from, and who was told, may be gone
        tree.pop(name, None)
    places = Places({(name,): Place(str(where), None, Path.cwd()) for name in tree})
    places.lenient = True
    return resolved(Layers(hoist(tree, str(where)), places, set()))


def spec_of(told: Told, where: Path) -> Spec:
    """What its samples are.

    Raises:
        DataError: It does not say.
    """
    try:
        return Spec(**json.loads(told["spec"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(where, f"does not tell what its samples are ({error})", "export it again") from error


def needed(module: str, extra: str, error: ImportError) -> GenkitError:
    """What to raise where an optional package is not installed."""
    from genkit.errors import PluginError

    hint = f"python -m pip install './plugins/export[{extra}]'"
    return PluginError("genkit export", f"needs {module}, which is not installed ({error})", hint)
