"""Evaluating again: a run that is there, or a model without one."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import attrs

from genkit.denoiser import Denoiser
from genkit.errors import RecipeError
from genkit.evaluation import measuring, sampling, scoring
from genkit.kernel.loading import load_recipe
from genkit.kernel.recipe import Recipe, other_evaluation
from genkit.kinds import Watch
from genkit.runs import evaluating, models, store
from genkit.runs.callbacks import Hooks, watching
from genkit.runs.planning import plan
from genkit.training import checkpoint, processes
from genkit.training.state import State


def evaluate(
    run: str | Path | Denoiser | State,
    recipe: Recipe | str | Path | None = None,
    *,
    at: str = "latest",
    device: str | None = None,
    watch: Watch | None = None,
    progress: bool = True,
    **settings: Any,
) -> dict[str, Any]:
    """Evaluate a run, as its recipe says or with other settings of the table [evaluate]; it is recorded.

    Under torchrun every process draws its share, and the first one records.

    Args:
        run: A run, by name or folder; or a model without one, which leaves no record.
        recipe: Whose data, metrics and protocol a model without a run is held against.
        at: Which checkpoint: "latest", "best", or a step.
        watch: Called with each event, instead of showing progress.
        progress: Show it, where there is a terminal or a notebook.

    Returns:
        {"protocol": …, "steps": {"1": {"figures": {"fd.fd": …}, "nfe": 1}}}

    Raises:
        GenkitError: The run has no such checkpoint, or its recipe names no metrics.
    """
    with watching(watch, progress) as told:
        if not isinstance(run, str | Path):
            return _loose(run, recipe, device, told, settings)
        return _of_run(run, at, device, told, settings)


def _loose(model: Any, recipe: Any, device: str | None, watch: Watch, settings: dict[str, Any]) -> dict[str, Any]:
    """Figures of a model without a run, on no record."""
    if recipe is None:
        raise RecipeError("genkit.evaluate", "a model without a run has no recipe", 'name one: recipe="ict_digits"')
    asked = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    measuring.require_metrics(asked.metrics)
    planned = plan(attrs.evolve(asked, evaluate=other_evaluation(asked.evaluate, settings)), None, device)
    with planned.settled(), sampling.of_state(model, planned.recipe.evaluate.weights) as denoiser:
        return measuring.of_recipe(denoiser, planned.data, planned.recipe, planned.context, scoring.progress(watch))


def _of_run(run: str | Path, at: str, device: str | None, watch: Watch, settings: dict[str, Any]) -> dict[str, Any]:
    folder, recipe = models.reopen(run)
    measuring.require_metrics(recipe.metrics)
    recipe = attrs.evolve(recipe, evaluate=other_evaluation(recipe.evaluate, settings))
    planned = plan(recipe, folder, device)
    first = processes.rank() == 0

    with store.held(folder) if first else nullcontext(), planned.settled():
        chosen, newest = (checkpoint.chosen(folder / "checkpoints", which) for which in (at, "latest"))
        k, suffix = checkpoint.step_of(chosen), "" if chosen == newest else f"@{checkpoint.step_of(chosen)}"
        denoiser = models.load(folder, recipe.evaluate.weights, planned.context.device, str(k))
        planned.compile(denoiser)
        for text in (*planned.notes(training=False), *sampling.unrecorded(denoiser)):
            watch({"event": "notice", "text": text})
        found = measuring.of_recipe(denoiser, planned.data, recipe, planned.context, scoring.progress(watch))
        if not first:
            return found
        hooks = Hooks(lambda **what: watch(store.event(folder, **what)))
        found = evaluating.put(planned, found, k, hooks, suffix)
    hooks("genkit_report", folder=folder)
    return found
