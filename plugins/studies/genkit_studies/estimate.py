"""How long a run will take, by what some steps and samples of it take."""

from __future__ import annotations

import importlib
import itertools
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs
import torch

from genkit.denoiser import Denoiser
from genkit.evaluation import sampling
from genkit.kernel import discovery, registry
from genkit.kernel.recipe import Recipe
from genkit.runs import planning
from genkit.runs.planning import Plan
from genkit.training.step import train
from genkit_studies import affordable
from genkit_studies.worker import WARM

UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in which the system counts memory
STEPS, SECONDS, SAMPLES = 2, 0.5, 16


def estimate(recipe: Recipe, device: str | None) -> dict[str, float]:
    """Seconds for the whole run, for a step, and for all evaluations; the recipe is tried before.

    Besides "start", the seconds that this process has taken to get here, "memory", the most bytes that it held, and
    "share", the part of its card that the recipe takes; 0 without one.

    Weights that a run would download are random ones here.

    Raises:
        GenkitError: It cannot run.
    """
    for name in WARM:
        importlib.import_module(name)
    begun = _since_start()
    with tempfile.TemporaryDirectory(prefix="genkit-") as folder:
        objective = affordable.standing_in(recipe.objective, Path(folder))
        found = _estimate(planning.plan(attrs.evolve(recipe, objective=objective), device=device))
    return {"start": round(begun, 2), "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT, **found}


def _estimate(planned: Plan) -> dict[str, float]:
    planned.try_out()
    step = discovery.installed().manager.hook.genkit_step_seconds(planned=planned) or _step_seconds(planned)
    busy = _busy(planned.context.device)
    with planned.settled():
        evaluation = _evaluation_seconds(planned, planned.program().student.eval())
        share = max(busy, _held(planned.context.device))
    whole = round(planned.recipe.train.steps * step + evaluation, 3)
    return {"seconds": whole, "step": step, "evaluation": evaluation, "share": share}


def _since_start() -> float:
    """Seconds since this process was started, or forked; of CPU where the system does not say when that was."""
    try:
        words = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return time.process_time()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(words[19]) / os.sysconf("SC_CLK_TCK")


def _busy(device: str) -> float:
    """The part of the last second's time in which a card was at work; all of it, if nothing tells."""
    if not device.startswith("cuda"):
        return 0.0
    try:
        return torch.cuda.utilization(device) / 100
    except Exception:  # the library that tells it may be absent, or the card may not tell
        return 1.0


def _held(device: str) -> float:
    """The part of a card's memory that is held, and a tenth of the rest for chance; 0 without a card."""
    if not device.startswith("cuda"):
        return 0.0
    free, total = torch.cuda.mem_get_info(device)
    return 1 - 0.9 * free / total


def _step_seconds(planned: Plan) -> float:
    """The last of a few steps, where no plugin measures them better; the first one allocates."""
    state, times = planned.state(), [time.monotonic()]
    with planned.settled(), torch.compiler.set_stance("force_eager"):
        for _ in itertools.islice(train(state, planned.data, planned.recipe.train), STEPS):
            _wait(planned.context.device)
            times.append(time.monotonic())
    return times[-1] - times[-2]


def _evaluation_seconds(planned: Plan, denoiser: Denoiser) -> float:
    """Samples and their features, by the time that a few take; what metrics make of them is not in it."""
    settings = planned.recipe.evaluate
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
