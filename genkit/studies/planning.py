"""What a study is made of before it runs: trials, those that are done, and what the others will take."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from genkit import measure, models, prepare, record
from genkit.errors import GenkitError, RecipeError
from genkit.identity import identity
from genkit.recipe import NAME, Recipe
from genkit.studies import designs
from genkit.studies.designs import Question
from genkit.studies.pool import Job
from genkit.studies.slot import OUT_OF_MEMORY, reason
from genkit.study import Arm, Study, Trial

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
    if min(seeds) < 0:
        raise RecipeError("seeds", f"{min(seeds)} is below 0", "name seeds from 0 on")
    _require_metric(question.metric, base)
    data = _Data(device)
    trials = tuple(_trial(arm, seed, data) for arm in arms for seed in seeds)
    parts = [question.design, question.metric, *(a.label for a in arms), *map(str, seeds), *(t.id for t in trials)]
    id = hashlib.sha256(json.dumps([*parts, base.protocol()], sort_keys=True).encode()).hexdigest()[:10]
    folder = record.root() / "studies" / f"{question.name}-{id}"
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
            self.known[key] = prepare.plan(recipe, device=self.device).data.identity
        return self.known[key]


def recipe_of(arm: Arm, seed: int) -> Recipe:
    """The recipe of a trial."""
    return attrs.evolve(arm.recipe, train=attrs.evolve(arm.recipe.train, seed=seed))


def _trial(arm: Arm, seed: int, data: _Data) -> Trial:
    recipe = recipe_of(arm, seed)
    id = identity(recipe, data(recipe), models.content)
    return Trial(arm=arm.label, seed=seed, folder=record.root() / f"{recipe.name}-{id}", id=id)


# ---- what is in the store ------------------------------------------------------------------------


def refreshed(study: Study) -> Study:
    """The study with every trial's state as the store has it, and else as the study last knew it."""
    known = {}
    if (study.folder / "study.json").is_file():
        known = {t["id"]: t for t in record.read(study.folder / "study.json").get("trials", [])}
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
    if who := record.holder(trial.folder):
        return attrs.evolve(
            trial, state="running", figures={}, by_seed={}, seconds=seconds(trial.folder), reason=f"held by {who}"
        )
    ends = [e for e in record.events(trial.folder) if e.get("event") in ("end", "start", "resume")]
    last: dict[str, Any] = ends[-1] if ends else {}
    state, why = last.get("outcome", otherwise), last.get("text", reason)
    found: dict[str, Any] = {}
    if state == "done":
        found = _evaluation(trial.folder, recipe)
        lacking = (otherwise, reason) if reason else ("todo", "not evaluated by this protocol")
        state, why = ("done", "") if found or not recipe.metrics else lacking
    elif state not in ("diverged", "preempted", "crashed", "out-of-memory"):
        state = otherwise
    figures, by_seed = record.figures_of(found), record.by_seed_of(found)
    return attrs.evolve(trial, state=state, figures=figures, by_seed=by_seed, seconds=seconds(trial.folder), reason=why)


def _evaluation(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """The final evaluation of a run, at all the recipe's numbers of sampling steps; empty if they are not all there."""
    found = record.read(measure.evaluation_file(folder, recipe))
    wanted = [str(n) for n in recipe.evaluate.steps]
    whole = found.get("k") == recipe.train.steps and set(wanted) <= set(found.get("steps", {}))
    return {"steps": {n: found["steps"][n] for n in wanted}} if whole else {}


def seconds(folder: Path) -> float:
    """What a run took, over all its sessions: from each beginning to its end, or to the last that was heard of it."""
    total, begun, last = 0.0, 0.0, 0.0
    for event in record.events(folder):
        kind, now = event.get("event"), event.get("time", 0.0)
        if kind in ("start", "resume"):
            total, begun, last = total + last - begun, now, now
        elif begun:
            last = now
        if kind == "end":
            total, begun, last = total + last - begun, 0.0, 0.0
    return round(total + last - begun, 3)


# ---- before the hours are spent ------------------------------------------------------------------


def try_out(study: Study, launcher: Any, device: str, arms: Sequence[Arm]) -> dict[str, float]:
    """A two-step smoke run of each arm; seconds that a trial of it will take.

    Raises:
        RecipeError: Arms that cannot run, all of them, and why.
    """
    from genkit.studies.running import through

    with tempfile.TemporaryDirectory(prefix="genkit-") as temporary:
        jobs = {arm.label: _smoke(Path(temporary), i, arm, device) for i, arm in enumerate(arms)}
        codes = through(launcher, jobs)
        problems: list[GenkitError] = []
        for label in codes:
            if code := codes[label]:
                why = reason(jobs[label].log) or f"ended with {code}"
                lack = " (out of memory)" if code == OUT_OF_MEMORY else ""
                problems.append(RecipeError(f"arm {label!r}", f"two steps of it fail{lack}: {why}"))
        if problems:
            raise RecipeError.of([str(problem) for problem in problems])
        return {label: record.read(job.log.with_suffix(".json"))["seconds"] for label, job in jobs.items()}


def _smoke(folder: Path, number: int, arm: Arm, device: str) -> Job:
    written = folder / f"{number}.toml"
    record.write(written, arm.recipe.toml())
    argv = ("run", str(written), "--device", device, "--smoke", str(written.with_suffix(".json")))
    return Job(argv=argv, log=written.with_suffix(".txt"))
