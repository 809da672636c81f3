"""A study grows: arms and seeds of a question come to those that are there; all are evaluated as is asked now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from genkit.errors import GenkitError
from genkit.kernel.identity import identity
from genkit.kernel.recipe import Recipe
from genkit.kinds import fields, names
from genkit_studies.changes import differences
from genkit_studies.study import Arm, arm_of

Kept = Mapping[str, Any]  # what `study.json` holds; empty for a new study


def arms(kept: Kept, path: Path, asked: Sequence[Arm]) -> tuple[tuple[Arm, ...], tuple[str, ...]]:
    """The arms of a study with those that are asked for, the baseline first, and what is to be said of it.

    An arm keeps its place, so that the study's files keep their names. The same recipe under another label takes
    the new label; another recipe under the same label takes its place.
    """
    base, found, notices = asked[0], [asked[0]], list[str]()
    by_run, by_label = ({key(arm): arm for arm in asked} for key in (_run, lambda arm: arm.label))
    before: list[str] = []
    for arm in _earlier(kept, path, base.recipe, notices):
        if new := by_run.get(_run(arm)):
            found += [new] * (new not in found)
        elif new := by_label.get(arm.label):
            notices.append(f"{arm.label} was another recipe before, and is no longer in the study")
        else:
            found.append(arm)
            before.append(arm.label)
    if before:
        notices.append(
            f"the study has {names(before)} already, and keeps {'them' if before[1:] else 'it'}; --name begins another"
        )
    return (*found, *(arm for arm in asked if arm not in found)), tuple(notices)


def seeds(kept: Kept, asked: Sequence[int]) -> tuple[int, ...]:
    """Those of the study, and then what is new."""
    return tuple(dict.fromkeys([*kept.get("seeds", ()), *asked]))


def _run(arm: Arm) -> str:
    return identity(arm.recipe, "")


def _earlier(kept: Kept, path: Path, base: Recipe, notices: list[str]) -> Iterator[Arm]:
    """The arms of before but the baseline, evaluated as the baseline is now; those that are no recipes are told."""
    then, *others = kept.get("arms", ()) or (None,)
    try:
        old = arm_of(then, path).recipe if then else base
    except GenkitError:
        old = base
    for each in others:
        try:
            arm = arm_of(each, path)
        except GenkitError as error:
            notices.append(f"{each['label']} is left out: {str(error).splitlines()[0]}")
            continue
        recipe = _as_now(arm.recipe, old, base)
        yield attrs.evolve(arm, recipe=recipe, changes=differences(base, recipe))


def _as_now(recipe: Recipe, then: Recipe, base: Recipe) -> Recipe:
    """An arm's recipe with what it shares with the baseline, the data and all that changes no weights, as it is now."""
    train = {
        f.name: getattr(base.train, f.name) for _, f in fields(type(base.train)) if not f.metadata.get("identity", True)
    }
    shared = {name: getattr(base, name) for name in ("name", "dataset", "evaluate", "metrics", "trackers")}
    objective = recipe.objective
    if objective.sampler == then.objective.sampler:
        objective = attrs.evolve(objective, sampler=base.objective.sampler)
    return attrs.evolve(recipe, **shared, objective=objective, train=attrs.evolve(recipe.train, **train))
