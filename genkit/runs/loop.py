"""The loop of a run: steps, and what comes between them: figures, checkpoints, pictures, evaluations."""

from __future__ import annotations

import functools
import time
from pathlib import Path

from genkit import keys
from genkit.errors import Stopped
from genkit.evaluation import scoring
from genkit.kernel.recipe import Recipe
from genkit.runs import evaluating, lock, store
from genkit.runs.callbacks import Hooks
from genkit.runs.evaluating import Saver
from genkit.runs.planning import Plan
from genkit.training import processes
from genkit.training.signals import Signals
from genkit.training.state import State
from genkit.training.step import read_back, train


def run(planned: Plan, state: State, begin: str, notices: list[str], hooks: Hooks, stop: Signals) -> None:
    """Train from `state.k` to the last step.

    Args:
        begin: The event that it begins with, start or resume.

    Raises:
        Diverged: The loss stopped being finite.
        Stopped: A signal came; a checkpoint of the last step taken stands.
    """
    recipe, tell = planned.recipe, hooks.tell
    tell(event=begin, k=state.k, steps=recipe.train.steps, batch_size=recipe.train.batch_size)
    for text in (*planned.notes(), *notices):
        tell(event="notice", text=text)
    hooks.trackers.open(lock.tracked(planned, state.k))
    if processes.gather(_owed(planned, state.k))[0]:
        _evaluate(planned, state, hooks, stop)
    with Saver(planned, hooks) as saver:
        _steps(planned, state, stop, hooks, saver)


def _owed(planned: Plan, k: int) -> bool:
    """Whether a run was stopped between the checkpoint of step k and its evaluation."""
    told = (e.get("k") for e in store.events(planned.folder) if e.get("event") == "evaluated")
    return evaluate_due(planned.recipe, k) and k not in told


def _steps(planned: Plan, state: State, stop: Signals, hooks: Hooks, saver: Saver) -> None:
    recipe, settings = planned.recipe, planned.recipe.train
    ended = functools.partial(hooks, "genkit_step_end", state=state)
    begun, since, first = time.monotonic(), time.monotonic(), state.k
    for figures in train(state, planned.data, settings):
        k, last = state.k, state.k == settings.steps
        if not last:
            ended(figures=figures, key=keys.Key(settings.seed, k - 1))
            saver.wait(ready=True)
        if not due(recipe, k, stop):
            continue
        plain = read_back(state, figures)
        now = time.monotonic()
        for made in state.optimizers.values() if last and settings.keep_final == "weights" else ():
            made.state.clear()
        if last:  # its checkpoint stands before anything else is done
            saver.save(state, wait=True)
            ended(figures=figures, key=keys.Key(settings.seed, k - 1))
        if turn(k, settings.log_every_steps) or last:
            rate = (k - first) * settings.batch_size / (now - since)
            _log(planned, k, plain, now - begun, rate, hooks)
            hooks.trackers.scalars(k, {**plain, "images_per_sec": rate, **_rates(state)})
            since, first = now, k
        halt = any(processes.gather(stop.signal is not None))
        showing = turn(k, settings.sample_every_steps)
        if not last and (halt or turn(k, settings.save_every_steps, settings.keep_every_steps)):
            saver.save(state, wait=halt or showing or evaluate_due(recipe, k))
        if halt:
            processes.gather(None)
            raise stop.stopped(planned.folder, k)
        if showing:
            evaluating.show(planned, state, f"step-{k:07d}", hooks)
        if evaluate_due(recipe, k):
            _evaluate(planned, state, hooks, stop)
        since += time.monotonic() - now  # the rate is that of training


def _rates(state: State) -> dict[str, float]:
    """The learning rate of the last step; of each phase, where there are several."""
    several = len(state.optimizers) > 1
    return {f"lr_{phase}" if several else "lr": o.param_groups[0]["lr"] for phase, o in state.optimizers.items()}


def _log(planned: Plan, k: int, figures: dict[str, float], elapsed: float, rate: float, hooks: Hooks) -> None:
    to_draw = planned.recipe.evaluations_after(k) * planned.calls() / 4  # a network call is a quarter of a step's
    left = (planned.recipe.train.steps - k) * planned.recipe.train.batch_size + to_draw
    told = {"elapsed": round(elapsed, 3), "images_per_sec": round(rate, 1), "left_sec": round(left / rate, 1)}
    hooks.tell(event="step", k=k, figures=figures, **told, memory=processes.peak_memory(planned.context.device))


def _evaluate(planned: Plan, state: State, hooks: Hooks, stop: Signals) -> None:
    """An evaluation between steps; where a signal ends it, it is owed, and a checkpoint of the step stands."""
    try:
        evaluating.recorded(planned, state, hooks, heeding(stop, planned.folder, state.k))
    except Stopped:
        evaluating.save(planned, state, hooks)
        processes.gather(None)
        raise


def heeding(
    stop: Signals, folder: Path, k: int, watch: scoring.Watch = lambda what, done, total: None
) -> scoring.Watch:
    """A watch of an evaluation that leaves between two blocks of samples once a signal came."""

    def heed(what: str, done: int, total: int) -> None:
        watch(what, done, total)
        if stop.signal is not None:
            raise stop.stopped(folder, k)

    return heed


def due(recipe: Recipe, k: int, stop: Signals) -> bool:
    """Whether something besides training happens after step k, on every process alike."""
    t, alone = recipe.train, processes.world() == 1 and stop.signal is not None
    every = t.log_every_steps, t.save_every_steps, t.keep_every_steps, t.sample_every_steps
    return alone or k == t.steps or turn(k, *every, recipe.evaluate.every_steps)


def evaluate_due(recipe: Recipe, k: int) -> bool:
    """Whether an evaluation between steps follows step k."""
    return bool(recipe.metrics) and turn(k, recipe.evaluate.every_steps) and 0 < k < recipe.train.steps


def turn(k: int, *every: int) -> bool:
    """Whether step k is one of every so many, for one of these numbers; 0 stands for never."""
    return any(n and k % n == 0 for n in every)
