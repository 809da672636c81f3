"""How long a run will take, by what some steps and samples of it take."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import attrs
import torch

from genkit.denoiser import Denoiser
from genkit.evaluation import sampling
from genkit.kernel import registry
from genkit.kernel.recipe import Recipe
from genkit.runs import planning
from genkit.runs.planning import Plan
from genkit.training.state import State
from genkit.training.step import train
from genkit_studies import affordable

STEPS, SECONDS, SAMPLES = 2, 0.5, 16
LONG = 5.0  # seconds; one step that takes it tells enough


def estimate(recipe: Recipe, device: str | None) -> dict[str, float]:
    """Seconds for the whole run, for a step, and for all evaluations; the recipe is tried before.

    Weights that a run would download are random ones here.

    Raises:
        GenkitError: It cannot run.
    """
    with tempfile.TemporaryDirectory(prefix="genkit-") as folder:
        objective = affordable.standing_in(recipe.objective, Path(folder))
        return _estimate(planning.plan(attrs.evolve(recipe, objective=objective), device=device))


def _estimate(planned: Plan) -> dict[str, float]:
    planned.try_out()
    state = State.of(planned.program(), planned.recipe.optimizer, planned.recipe.ema, planned.recipe.averages)
    with planned.threads():
        step = _step_seconds(planned, state)
        evaluation = _evaluation_seconds(planned, state)
    return {"seconds": round(planned.recipe.train.steps * step + evaluation, 1), "step": step, "evaluation": evaluation}


def _step_seconds(planned: Plan, state: State) -> float:
    times = []
    begun = last = time.monotonic()
    for _ in train(state, planned.data, planned.recipe.train):
        _wait(planned.context.device)
        now = time.monotonic()
        times.append(now - last)
        last = now
        if state.k >= planned.recipe.train.steps or now - begun > (SECONDS if len(times) > STEPS else LONG):
            break
    usual = sorted(times[STEPS:] or times)  # the first steps allocate
    return usual[len(usual) // 2]


def _evaluation_seconds(planned: Plan, state: State) -> float:
    """Samples and their features, by the time that a few take; what metrics make of them is not in it."""
    settings, denoiser = planned.recipe.evaluate, state.program.student.eval()
    features = {metric.features for metric in planned.recipe.metrics.values()}
    built = [registry.build(component, planned.context) for component in features]
    each = sum(_seconds_each(planned, denoiser, built, n) for n in settings.steps)
    return each * settings.count * len(settings.all_seeds) * planned.recipe.evaluations_after(0)


def _seconds_each(planned: Plan, denoiser: Denoiser, features: list[Any], steps: int) -> float:
    """Seconds for a sample: by a few, or by a block where a few are too quick to tell."""
    for count in (min(count, planned.recipe.evaluate.count) for count in (SAMPLES, sampling.BLOCK)):
        begun = time.monotonic()
        shown = planned.data.decode(sampling.sample(denoiser, count, steps, planned.recipe.evaluate.seed))
        for each in features:
            each(shown)
        _wait(planned.context.device)
        seconds = time.monotonic() - begun
        if seconds > SECONDS / 5:
            break
    return seconds / count


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
