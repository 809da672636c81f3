"""What a study is made of before it runs: trials, those that are done, and what the others will take."""

from __future__ import annotations

import hashlib
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from genkit.data import records
from genkit.errors import RecipeError
from genkit.evaluation import results
from genkit.kernel.identity import identity
from genkit.kernel.recipe import NAME, Recipe
from genkit.runs import evaluating, models, planning, store
from genkit.training import checkpoint
from genkit_studies import designs, growth, keeping
from genkit_studies.designs import Question
from genkit_studies.study import Arm, Study, Trial

ENDED = ("done", "diverged")


def plan(question: Question, device: str) -> Study:
    """A question's study: a trial for each arm and seed, of the question and of before, with what is in the store.

    Raises:
        GenkitError: An arm makes no recipe, or data are not to be had; every problem at once.
    """
    if not re.fullmatch(NAME, question.name):
        raise RecipeError("name", f"{question.name!r} can name no folder", "letters, digits, and - _ . between them")
    asked = keeping.lean(designs.arms(question))
    base = asked[0].recipe
    seeds = question.seeds or (base.train.seed,)
    if len(set(seeds)) < len(seeds):
        raise RecipeError("seeds", f"{max(seeds, key=seeds.count)} stands twice", "name each once")
    if not 0 <= min(seeds) <= max(seeds) < 2**63:
        raise RecipeError("seeds", f"{min(seeds)} to {max(seeds)}", "name seeds from 0 to 2^63 - 1")
    _require_metric(question.metric, base)
    data = _Data(device)
    id = _id(question.name, asked[0], data)
    folder = store.root() / "studies" / f"{question.name}-{id}"
    kept = records.read(folder / "study.json")
    arms, notices = growth.arms(kept, folder / "study.json", asked)
    seeds = growth.seeds(kept, seeds)
    study = Study(
        name=question.name, id=id, folder=folder, design=question.design, metric=question.metric or _metric(kept, base),
        arms=arms, seeds=seeds, trials=tuple(_trial(arm, seed, data) for arm in arms for seed in seeds),
        looks=tuple(kept.get("looks", ())), planned=kept.get("planned", 0),
        measured=kept.get("measured", {}), notices=notices,
    )  # fmt: skip
    return refreshed(study, kept)


def _id(name: str, baseline: Arm, data: _Data) -> str:
    """What a study is: its name, and the run of its baseline whatever the seed."""
    recipe = recipe_of(baseline, 0)
    parts = [name, identity(recipe, data(recipe), models.content)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:10]


def _metric(kept: growth.Kept, recipe: Recipe) -> str:
    """The figure that the study was about so far, if it still will be there."""
    with suppress(RecipeError):
        _require_metric(kept.get("metric", ""), recipe)
        return str(kept.get("metric", ""))
    return ""


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


def refreshed(study: Study, kept: growth.Kept) -> Study:
    """The study with every trial's state as the store has it, and else as the study last knew it."""
    known = {t["id"]: t for t in kept.get("trials", ())}
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
    told = store.events(trial.folder)
    trained = recipe.train.steps in map(checkpoint.step_of, checkpoint.present(trial.folder / "checkpoints"))
    blank = attrs.evolve(trial, figures={}, by_seed={}, trained=trained, seconds=seconds(told), evaluation=0.0)
    blank = attrs.evolve(blank, **cost(told))
    if who := store.holder(trial.folder):
        return attrs.evolve(blank, state="running", reason=f"held by {who}")
    ends = [e for e in told if e.get("event") in ("end", "start", "resume")]
    last: dict[str, Any] = ends[-1] if ends else {}
    state, why = last.get("outcome", otherwise), last.get("text", reason)
    if state not in ("done", "diverged", "preempted", "crashed", "out-of-memory"):
        state = otherwise
    if state != "done" or not recipe.metrics:
        return attrs.evolve(blank, state=state, reason="" if state == "done" else why)
    found = _evaluation(trial.folder, recipe)
    if not found:
        state, why = (otherwise, reason) if reason else ("todo", "not evaluated by this protocol")
        return attrs.evolve(blank, state=state, reason=why)
    own = float(found.get("seconds", 0.0))
    return attrs.evolve(
        blank, state="done", figures=results.figures_of(found), by_seed=by_seed_of(found), reason="",
        seconds=round(blank.seconds + own, 3), evaluation=own,
    )  # fmt: skip


def _evaluation(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """The final evaluation of a run, at all the recipe's numbers of sampling steps; empty if they are not all there."""
    found = records.read(evaluating.evaluation_file(folder, recipe), records.ANEW)
    wanted = [str(n) for n in recipe.evaluate.steps]
    whole = found.get("k") == recipe.train.steps and set(wanted) <= set(found.get("steps", {}))
    return {**found, "steps": {n: found["steps"][n] for n in wanted}} if whole else {}


def seconds(told: Sequence[Mapping[str, Any]]) -> float:
    """What a training took, over all its sessions: from each beginning to its end, or to the last that was heard of it.

    Less the evaluations after the last step: by which protocol they were, and how often, is another matter.
    """
    total, begun, last, steps = 0.0, 0.0, 0.0, None
    for event in told:
        kind, now = event.get("event"), event.get("time", 0.0)
        if kind in ("start", "resume"):
            total, begun, last, steps = total + last - begun, now, now, event.get("steps")
        elif begun:
            last = now
            if kind == "evaluated" and event.get("k") == steps:
                total -= event.get("seconds", 0.0)
        if kind == "end":
            total, begun, last = total + last - begun, 0.0, 0.0
    return round(max(total + last - begun, 0.0), 3)


def cost(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Images a second over a training, and its peak memory, as its events tell them.

    The mean of the time for an image, as steps may become dearer on their way; without the first event, which has all
    that is done once.
    """
    steps = [event for event in told if event.get("event") == "step"]
    rates = [event["images_per_sec"] for event in steps[1:] or steps]
    peak = max((event.get("memory", 0) for event in steps), default=0)
    return {"images_per_sec": statistics.harmonic_mean(rates) if rates else 0.0, "memory": peak}


def by_seed_of(evaluation: dict[str, Any]) -> dict[str, list[float]]:
    """Each figure of an evaluation at each of its seeds, named as by `results.figures_of`; empty if there was one."""
    found: dict[str, list[float]] = {}
    for n, row in evaluation.get("steps", {}).items():
        for figures in row.get("by_seed", ()):
            for name, value in figures.items():
                found.setdefault(f"{name}@{n}", []).append(value)
    return found
