"""What a study is made of before it runs: trials, those that are done, and what the others will take."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import attrs

from genkit.data import records
from genkit.errors import RecipeError
from genkit.evaluation import results
from genkit.kernel.identity import identity
from genkit.kernel.recipe import NAME, Recipe
from genkit.runs import evaluating, models, planning, store
from genkit_studies import designs
from genkit_studies.designs import Question
from genkit_studies.study import Arm, Study, Trial

ENDED = ("done", "diverged")


def plan(question: Question, device: str) -> Study:
    """The arms of a question, and a trial for each arm and seed with what is in the store.

    Raises:
        GenkitError: An arm makes no recipe, or data are not to be had; every problem at once.
    """
    if not re.fullmatch(NAME, question.name):
        raise RecipeError("name", f"{question.name!r} can name no folder", "letters, digits, and - _ . between them")
    arms = designs.arms(question)
    base = arms[0].recipe
    seeds = question.seeds or (base.train.seed,)
    if len(set(seeds)) < len(seeds):
        raise RecipeError("seeds", f"{max(seeds, key=seeds.count)} stands twice", "name each once")
    if not 0 <= min(seeds) <= max(seeds) < 2**63:
        raise RecipeError("seeds", f"{min(seeds)} to {max(seeds)}", "name seeds from 0 to 2^63 - 1")
    _require_metric(question.metric, base)
    data = _Data(device)
    trials = tuple(_trial(arm, seed, data) for arm in arms for seed in seeds)
    parts = [question.design, question.metric, *(a.label for a in arms), *map(str, seeds), *(t.id for t in trials)]
    id = hashlib.sha256(json.dumps([*parts, base.protocol()], sort_keys=True).encode()).hexdigest()[:10]
    folder = store.root() / "studies" / f"{question.name}-{id}"
    study = Study(
        name=question.name, id=id, folder=folder, design=question.design, metric=question.metric,
        arms=arms, seeds=seeds, trials=trials,
    )  # fmt: skip
    return refreshed(study)


def _require_metric(metric: str, recipe: Recipe) -> None:
    if not metric:
        return
    table, _, steps = metric.partition(".")[0], *metric.rpartition("@")[1:]
    if table not in recipe.metrics or steps not in map(str, recipe.evaluate.steps):
        known = [f"{name}.….@{n}" for name in recipe.metrics for n in recipe.evaluate.steps]
        hint = f"figures are called like fd.fd@1; here: {', '.join(known) or 'none, the recipe names no metrics'}"
        raise RecipeError("metric", f"{metric!r} is none of this recipe's figures", hint)


class _Data:
    """Identities of data sets, each looked at once."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.known: dict[Any, str] = {}

    def __call__(self, recipe: Recipe) -> str:
        key = (recipe.dataset, recipe.levels, recipe.train.seed)
        if key not in self.known:
            self.known[key] = planning.plan(recipe, device=self.device).data.identity
        return self.known[key]


def recipe_of(arm: Arm, seed: int) -> Recipe:
    """The recipe of a trial."""
    return attrs.evolve(arm.recipe, train=attrs.evolve(arm.recipe.train, seed=seed))


def _trial(arm: Arm, seed: int, data: _Data) -> Trial:
    recipe = recipe_of(arm, seed)
    id = identity(recipe, data(recipe), models.content)
    return Trial(arm=arm.label, seed=seed, folder=store.root() / f"{recipe.name}-{id}", id=id)


# ---- what is in the store ------------------------------------------------------------------------


def refreshed(study: Study) -> Study:
    """The study with every trial's state as the store has it, and else as the study last knew it."""
    known = {}
    if (study.folder / "study.json").is_file():
        known = {t["id"]: t for t in records.read(study.folder / "study.json").get("trials", [])}
    before = {id: (t["state"], t["reason"]) for id, t in known.items() if t["state"] in ("crashed", "out-of-memory")}
    recipes = {arm.label: arm.recipe for arm in study.arms}
    return attrs.evolve(
        study, trials=tuple(refresh(t, recipes[t.arm], *before.get(t.id, ("todo", ""))) for t in study.trials)
    )


def refresh(trial: Trial, recipe: Recipe, otherwise: str = "todo", reason: str = "") -> Trial:
    """A trial as the store has it: done only with figures by this recipe's protocol.

    Args:
        otherwise: Its state where the store knows no end of it.
        reason: Why.
    """
    if who := store.holder(trial.folder):
        return attrs.evolve(
            trial, state="running", figures={}, by_seed={}, seconds=seconds(trial.folder), reason=f"held by {who}"
        )
    ends = [e for e in store.events(trial.folder) if e.get("event") in ("end", "start", "resume")]
    last: dict[str, Any] = ends[-1] if ends else {}
    state, why = last.get("outcome", otherwise), last.get("text", reason)
    found: dict[str, Any] = {}
    if state == "done":
        found = _evaluation(trial.folder, recipe)
        lacking = (otherwise, reason) if reason else ("todo", "not evaluated by this protocol")
        state, why = ("done", "") if found or not recipe.metrics else lacking
    elif state not in ("diverged", "preempted", "crashed", "out-of-memory"):
        state = otherwise
    figures, by_seed = results.figures_of(found), by_seed_of(found)
    return attrs.evolve(trial, state=state, figures=figures, by_seed=by_seed, seconds=seconds(trial.folder), reason=why)


def _evaluation(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """The final evaluation of a run, at all the recipe's numbers of sampling steps; empty if they are not all there."""
    found = records.read(evaluating.evaluation_file(folder, recipe), records.ANEW)
    wanted = [str(n) for n in recipe.evaluate.steps]
    whole = found.get("k") == recipe.train.steps and set(wanted) <= set(found.get("steps", {}))
    return {"steps": {n: found["steps"][n] for n in wanted}} if whole else {}


def seconds(folder: Path) -> float:
    """What a run took, over all its sessions: from each beginning to its end, or to the last that was heard of it."""
    total, begun, last = 0.0, 0.0, 0.0
    for event in store.events(folder):
        kind, now = event.get("event"), event.get("time", 0.0)
        if kind in ("start", "resume"):
            total, begun, last = total + last - begun, now, now
        elif begun:
            last = now
        if kind == "end":
            total, begun, last = total + last - begun, 0.0, 0.0
    return round(total + last - begun, 3)


def by_seed_of(evaluation: dict[str, Any]) -> dict[str, list[float]]:
    """Each figure of an evaluation at each of its seeds, named as by `results.figures_of`; empty if there was one."""
    found: dict[str, list[float]] = {}
    for n, row in evaluation.get("steps", {}).items():
        for figures in row.get("by_seed", ()):
            for name, value in figures.items():
                found.setdefault(f"{name}@{n}", []).append(value)
    return found
