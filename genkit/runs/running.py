"""A run from its beginning, or from where it stopped, to its figures and its report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import attrs

from genkit import keys
from genkit.errors import Diverged, Stopped
from genkit.evaluation import results, scoring
from genkit.kernel import registry
from genkit.kernel.loading import load_recipe
from genkit.kernel.recipe import Recipe
from genkit.runs import callbacks, evaluating, lock, planning, store
from genkit.runs.callbacks import Hooks, Trackers
from genkit.runs.evaluating import Watch
from genkit.runs.planning import Plan
from genkit.training import checkpoint, processes
from genkit.training.signals import Signals, caught
from genkit.training.state import State
from genkit.training.step import require_finite, train


@attrs.frozen(kw_only=True)
class RunResult:
    """What a run came to: its folder, its id, figures such as {"fd.fd@1": 0.7}, and what plugins reported of it."""

    folder: Path
    id: str
    figures: dict[str, float]
    evaluation: dict[str, Any]
    notices: tuple[str, ...] = ()
    reports: tuple[Path, ...] = ()


def run(
    recipe: Recipe | str | Path,
    out: str | Path | None = None,
    *,
    device: str | None = None,
    fresh: bool = False,
    again: bool = False,
    trial: bool = False,
    watch: Watch = lambda event: None,
) -> RunResult:
    """Train what a recipe says, evaluate it and write its report; go on, or report, where that is begun.

    Args:
        out: The run folder itself; by default one named after recipe and id in `runs`.
        fresh: Rename a folder that is there, and start anew.
        again: Repeat in a folder of its own.
        trial: Mark the run as part of a study.
        watch: Called with each event as it is recorded.

    Raises:
        Diverged: The loss stopped being finite.
        Stopped: A signal came; the run can be resumed.
        GenkitError: Anything else that the user can mend.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    planned = planning.plan(recipe, Path(out) if out else None, device)
    if again:
        planned = attrs.evolve(planned, folder=_unused(planned.folder))
    if processes.rank() > 0:
        return _follow(planned)
    lock.require_ours(planned)
    if fresh and planned.folder.exists():
        with store.held(planned.folder):
            planned.folder.rename(_unused(planned.folder.with_name(planned.folder.name + ".old")))
    with store.held(planned.folder):
        return _run(planned, trial, watch)


def _unused(folder: Path) -> Path:
    names = (folder.with_name(f"{folder.name}-{i}") for i in range(2, 10_000))
    return folder if not folder.exists() else next(name for name in names if not name.exists())


def _follow(planned: Plan) -> RunResult:
    """What a process other than the first does: what that one says, the same steps, nothing recorded."""
    state = planned.state()
    if newest := processes.gather(None)[0]:
        state.restore(*checkpoint.load(newest, planned.context.device))
    with caught() as stop:
        if state.k < planned.recipe.train.steps and processes.gather(None)[0]:  # an evaluation is owed
            evaluating.measured(planned, state)
        for _ in train(state, planned.data, planned.recipe.train):
            if _due(planned.recipe, state.k, stop):
                require_finite(state)
                if processes.any_of(stop.signal is not None):
                    processes.gather(None)  # stay until the first process has saved
                    raise stop.stopped(planned.folder, state.k)
            if _evaluate_due(planned.recipe, state.k):
                evaluating.measured(planned, state)
    result = {} if processes.gather(None)[0] else evaluating.measured(planned, state)
    return RunResult(folder=planned.folder, id=planned.id, figures=results.figures_of(result), evaluation=result)


def _run(planned: Plan, trial: bool, watch: Watch) -> RunResult:
    recipe, folder = planned.recipe, planned.folder
    notices = lock.claim(planned)
    hooks = Hooks(lambda **what: watch(store.event(folder, **what)))

    def progress(done: int, total: int) -> None:
        watch({"event": "sampling", "done": done, "total": total})

    checkpoint.sweep(folder / "checkpoints")
    newest, passed = checkpoint.latest(folder / "checkpoints")
    processes.gather(newest)
    with planned.threads() as threads:
        if newest and checkpoint.step_of(newest) >= recipe.train.steps:
            lock.keep(planned, trial)
            notices.append("this run is done; --again repeats it, --fresh begins anew")
            evaluated = _evaluated(planned, None, newest, hooks, progress)
        else:
            state = planned.state()
            notices += lock.write(planned, state, threads, trial)
            evaluated = _live(planned, state, newest, [*passed, *notices], hooks, progress)
    reports = hooks("genkit_report", folder=folder)
    return RunResult(
        folder=folder,
        id=planned.id,
        figures=results.figures_of(evaluated),
        evaluation=evaluated,
        notices=(*recipe.notices, *notices),
        reports=tuple(reports),
    )


def _live(
    planned: Plan, state: State, newest: Path | None, notices: list[str], hooks: Hooks, progress: scoring.Watch
) -> dict[str, Any]:
    """From the newest checkpoint to the last step and its figures, with the hooks at both ends."""
    recipe, folder, outcome = planned.recipe, planned.folder, "failed"
    if newest:
        state.restore(*checkpoint.load(newest, planned.context.device))
    hooks("genkit_run_start", folder=folder, recipe=recipe, key=keys.Key(recipe.train.seed, state.k))
    try:
        _train(planned, state, "resume" if newest else "start", notices, hooks)
        evaluated = _evaluated(planned, state, newest, hooks, progress)
        outcome = "done"
        return evaluated
    except (Diverged, Stopped) as error:
        outcome = "diverged" if isinstance(error, Diverged) else "preempted"
        hooks.tell(event="end", outcome=outcome, k=state.k, text=str(error))
        raise
    finally:
        hooks("genkit_run_end", folder=folder, outcome=outcome, key=keys.Key(recipe.train.seed, state.k))


def _train(planned: Plan, state: State, begin: str, notices: list[str], hooks: Hooks) -> None:
    recipe, tell = planned.recipe, hooks.tell
    tell(
        event=begin,
        k=state.k,
        steps=recipe.train.steps,
        batch_size=recipe.train.batch_size,
    )
    for text in (*getattr(planned.data, "notices", ()), *notices):
        tell(event="notice", text=text)
    with caught() as stop, callbacks.trackers(recipe.trackers, planned.folder, recipe.tree(), tell) as trackers:
        if processes.gather(_owed(planned, state.k))[0]:
            evaluating.recorded(planned, state, hooks)
        _steps(planned, state, stop, trackers, hooks)


def _owed(planned: Plan, k: int) -> bool:
    """Whether a run was stopped between the checkpoint of step k and its evaluation."""
    told = (e.get("k") for e in store.events(planned.folder) if e.get("event") == "evaluated")
    return _evaluate_due(planned.recipe, k) and k not in told


def _steps(planned: Plan, state: State, stop: Signals, trackers: Trackers, hooks: Hooks) -> None:
    recipe, settings = planned.recipe, planned.recipe.train
    watched = hooks.watched("genkit_step_end")
    begun, since, first = time.monotonic(), time.monotonic(), state.k
    for figures in train(state, planned.data, settings):
        k = state.k
        if watched:
            hooks("genkit_step_end", state=state, figures=figures, key=keys.Key(settings.seed, k - 1))
        if not _due(recipe, k, stop):
            continue
        require_finite(state)
        if k % settings.log_every_steps == 0 or k == settings.steps:
            now = time.monotonic()
            plain_figures = {name: float(value) for name, value in figures.items()}
            rate = (k - first) * settings.batch_size / (now - since)
            hooks.tell(
                event="step",
                k=k,
                figures=plain_figures,
                elapsed=round(now - begun, 3),
                images_per_sec=round(rate, 1),
                left_sec=round(_images_left(planned, k) / rate, 1),
            )
            trackers.scalars(k, plain_figures)
            since, first = now, k
        paused = time.monotonic()
        halt = processes.any_of(stop.signal is not None)
        if halt or k % settings.save_every_steps == 0 or k == settings.steps:
            evaluating.save(planned, state, hooks)
        if halt:
            processes.gather(None)
            raise stop.stopped(planned.folder, k)
        if settings.sample_every_steps and k % settings.sample_every_steps == 0:
            evaluating.show(planned, state, f"step-{k:07d}", trackers)
        if _evaluate_due(recipe, k):
            evaluating.recorded(planned, state, hooks)
        since += time.monotonic() - paused  # the rate is that of training


def _images_left(planned: Plan, k: int) -> float:
    """Images to be trained on, and those of evaluations to come, where a network call is a quarter of a step's."""
    recipe, settings = planned.recipe, planned.recipe.evaluate
    sampler = registry.build(recipe.objective.sampler, planned.context)
    calls: int = sum(sampler.nfe(n) for n in settings.steps) * settings.count * len(settings.all_seeds)
    return (recipe.train.steps - k) * recipe.train.batch_size + recipe.evaluations_after(k) * calls / 4


def _due(recipe: Recipe, k: int, stop: Signals) -> bool:
    """Whether something besides training happens after step k, on every process alike."""
    t = recipe.train
    every = [t.log_every_steps, t.save_every_steps, t.sample_every_steps, recipe.evaluate.every_steps]
    alone = processes.world() == 1 and stop.signal is not None
    return alone or k == t.steps or any(n and k % n == 0 for n in every)


def _evaluate_due(recipe: Recipe, k: int) -> bool:
    every = recipe.evaluate.every_steps
    return bool(recipe.metrics) and every > 0 and k % every == 0 and 0 < k < recipe.train.steps


def _evaluated(
    planned: Plan, state: State | None, newest: Path | None, hooks: Hooks, progress: scoring.Watch
) -> dict[str, Any]:
    """The final pictures and figures: those on record if the protocol is the same, else made now."""
    recipe, folder = planned.recipe, planned.folder
    found = store.read(evaluating.evaluation_file(planned.folder, planned.recipe)) if recipe.metrics else {"steps": {}}
    if not processes.gather(evaluating.is_final(planned, found))[0]:
        if state is None:
            state = planned.state()
            state.restore(*checkpoint.load(newest, planned.context.device))  # type: ignore[arg-type]
        evaluating.show(planned, state, "final")
        found = evaluating.recorded(planned, state, hooks, progress)
    if store.summary(folder).state != "done":
        hooks.tell(event="end", outcome="done", k=recipe.train.steps)
    return found
