"""Figures of a model that was exported, by the recipe that its file tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

import genkit
from genkit.errors import DataError
from genkit.evaluation import measuring, scoring
from genkit.kernel.recipe import other_evaluation
from genkit.runs.planning import plan


def evaluate(
    path: str, settings: Mapping[str, Any], *, device: str | None, watch: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Figures as `genkit.evaluate` gives them, on no record; a graph is evaluated in its own number of steps.

    Raises:
        DataError: The file tells no recipe.
        GenkitError: Its data, metrics or weights are not to be had.
    """
    model: Any = genkit.load(path, device=device)
    recipe = getattr(model, "recipe", None)
    if recipe is None:
        raise DataError(path, "tells no recipe, which names data and metrics", "evaluate samples of it, --against DATA")
    measuring.require_metrics(recipe.metrics)
    own = {"steps": (model.steps,)} if isinstance(getattr(model, "steps", None), int) else {}
    recipe = attrs.evolve(recipe, evaluate=other_evaluation(recipe.evaluate, {**own, **settings}))
    planned = plan(recipe, Path(path).with_suffix(""), device)
    with planned.settled():
        found = measuring.of_recipe(model, planned.data, recipe, planned.context, scoring.progress(watch))
    told = measuring.protocol_of(recipe, model.spec.counts)
    about = {name: found.pop(name) for name in measuring.OF_PROTOCOL}
    name = measuring.name_of(recipe, model.spec.counts)
    return {"protocol": {"name": name, **told, "data": planned.data.identity, **about}, **found}
