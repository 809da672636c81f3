"""Two steps of an arm, its samplers and its features, before hours are spent; and how long the whole will take."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from genkit.data import atomic
from genkit.denoiser import Denoiser
from genkit.evaluation import sampling
from genkit.kernel import registry
from genkit.kernel.recipe import Recipe
from genkit.runs import planning
from genkit.training.state import State
from genkit.training.step import train

STEPS, SECONDS, SAMPLES = 2, 0.5, 16


def try_out(recipe: Recipe, device: str | None, out: Path) -> None:
    """Take two steps, then some more for the time that they take; draw some samples, and look at their features.

    The estimate, in seconds for the whole trial, is written to `out`; nothing else is.

    Raises:
        GenkitError: The arm cannot run; so does whatever else goes wrong in it.
    """
    planned = planning.plan(recipe, device=device)
    program = planned.program()
    state = State.of(program, planned.recipe.optimizer, planned.recipe.ema)
    with planned.threads():
        step = _step_seconds(planned, state)
        evaluation = _evaluation_seconds(planned, state)
    seconds = planned.recipe.train.steps * step + evaluation
    atomic.write(out, json.dumps({"seconds": round(seconds, 1), "step": step, "evaluation": evaluation}))


def _step_seconds(planned: planning.Plan, state: State) -> float:
    times = []
    begun = last = time.monotonic()
    for _ in train(state, planned.data, planned.recipe.train):
        _wait(planned.context.device)
        now = time.monotonic()
        times.append(now - last)
        last = now
        if state.k >= planned.recipe.train.steps or (len(times) > STEPS and now - begun > SECONDS):
            break
    usual = sorted(times[STEPS:] or times)  # the first steps allocate
    return usual[len(usual) // 2]


def _evaluation_seconds(planned: planning.Plan, state: State) -> float:
    """Samples and their features, by the time that a few take; what metrics make of them is not in it."""
    settings, denoiser = planned.recipe.evaluate, state.program.student.eval()
    features = {metric.features for metric in planned.recipe.metrics.values()}
    built = [registry.build(component, planned.context) for component in features]
    each = sum(_seconds_each(planned, denoiser, built, n) for n in settings.steps)
    return each * settings.count * len(settings.all_seeds) * planned.recipe.evaluations_after(0)


def _seconds_each(planned: planning.Plan, denoiser: Denoiser, features: list[Any], steps: int) -> float:
    """Seconds for a sample: by a few, or by a block where a few are too quick to tell."""
    for count in (min(count, planned.recipe.evaluate.count) for count in (SAMPLES, sampling.BLOCK)):
        begun = time.monotonic()
        images = planned.data.decode(sampling.sample(denoiser, count, steps, planned.recipe.evaluate.seed))
        for each in features:
            each(images)
        _wait(planned.context.device)
        seconds = time.monotonic() - begun
        if seconds > SECONDS / 5:
            break
    return seconds / count


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
