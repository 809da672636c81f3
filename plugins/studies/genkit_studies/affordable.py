"""What a component costs before it is paid for: files that are not here yet, and what does nearly the same for less.

A component may have any of these:

    absent() -> PublicFile | None: a file that it would download, which `genkit recipe check` asks, too;
    stand_in(folder) -> component: itself, or where a file is not here, the same with random weights, just as costly;
    affordable(context) -> dict | None: settings at which it costs a fraction.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from genkit.data import PublicFile, files
from genkit.errors import DataError
from genkit.kernel import registry, resolving
from genkit.kernel.recipe import Recipe
from genkit.runs import planning
from genkit_studies.study import Arm, Study

TIMES = 5  # a dearer arm than so many baselines is told


def standing_in(component: Any, folder: Path) -> Any:
    """A component with stand-ins, at any depth, for what would download a file; they are written to the folder."""
    slots = {f.name: v for f in attrs.fields(type(component)) if registry.origin(v := getattr(component, f.name))}
    made = attrs.evolve(component, **{name: standing_in(value, folder) for name, value in slots.items()})
    return made.stand_in(folder) if hasattr(made, "stand_in") else made


def absent(recipe: Recipe) -> list[PublicFile]:
    """The files that a run of a recipe would download for its training."""
    asked = {key: c for key, c in resolving.components_of(recipe.objective) if hasattr(c, "absent")}
    outer = (c for key, c in asked.items() if not any(key[:n] in asked for n in range(1, len(key))))  # speak for inner
    return [file for c in outer if (file := c.absent())]


def require(study: Study, wanted: list[int]) -> None:
    """Raises DataError where trials to run need a file that is not here: nothing large is downloaded unasked."""
    labels = {study.trials[i].arm for i in wanted}
    for arm in (arm for arm in study.arms if arm.label in labels):
        for file in absent(arm.recipe):
            raise DataError(f"arm {arm.label!r}", files.wanted(file), "with --yes its trials download it")


def offers(study: Study, seconds: Mapping[str, float], device: str, command: str = "") -> Iterator[str]:
    """Sentences about arms that need a file, or cost far more than the baseline, with what costs less.

    Args:
        seconds: Of a trial of each arm that was tried.
        command: `genkit ablate RECIPE ...` that asks about the baseline; no line is offered without it.
    """
    base, *arms = study.arms
    usual = seconds.get(base.label) or max(trial.seconds for trial in study.of(base))
    for arm in (arm for arm in arms if arm.label in seconds):
        missing, dear = absent(arm.recipe), seconds[arm.label] > TIMES * usual > 0
        yield from (f"{arm.label} {files.wanted(file)}" for file in missing)
        if dear:
            yield f"{arm.label} takes {seconds[arm.label] / usual:,.0f} times as long as the baseline"
        if command and (missing or dear):
            yield from (f"for less: {command} --swap {shlex.quote(swap)}" for swap in _swaps(base, arm, device))


def _swaps(base: Arm, arm: Arm, device: str) -> Iterator[str]:
    """What to swap in, in place of an arm's components that have an affordable form, and that the baseline has not."""
    there = dict(resolving.components_of(base.recipe.objective))
    context = planning.plan(arm.recipe, device=device).context
    for key, component in resolving.components_of(arm.recipe.objective):
        if component == there.get(key) or not hasattr(component, "affordable"):
            continue
        if settings := component.affordable(context):
            table = {"use": registry.info_of(component).name, **settings}
            yield f"{'.'.join(key)}={{{', '.join(f'{name}={json.dumps(value)}' for name, value in table.items())}}}"
