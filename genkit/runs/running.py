"""A run from its beginning, or from where it stopped, to its figures and its report."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from genkit import keys
from genkit.data import records
from genkit.errors import GenkitError, Stopped
from genkit.evaluation import results, scoring
from genkit.kernel import blame, discovery
from genkit.kernel.loading import load_recipe
from genkit.kernel.recipe import Recipe
from genkit.kinds import Watch
from genkit.runs import evaluating, lock, loop, planning, store
from genkit.runs.callbacks import Hooks, Trackers, outcome_of, watching
from genkit.runs.planning import Plan
from genkit.training import checkpoint, processes, signals
from genkit.training.signals import Signals
from genkit.training.state import State
from genkit.training.step import read_back, train


@attrs.frozen(kw_only=True)
class RunResult:
    """What a run came to: its folder, its id, figures such as {"fd.fd@1": 0.7}, and what plugins reported of it."""

    folder: Path
    id: str
    figures: dict[str, float]
    evaluation: dict[str, Any]
    notices: tuple[str, ...] = ()
    reports: tuple[Path, ...] = ()

    def _repr_html_(self) -> str | None:
        html: str | None = discovery.installed().manager.hook.genkit_html(result=self)
        return html


@blame.blamed()
def run(
    recipe: Recipe | str | Path,
    out: str | Path | None = None,
    *,
    device: str | None = None,
    fresh: bool = False,
    again: bool = False,
    trial: Sequence[str] = (),
    watch: Watch | None = None,
    progress: bool = True,
) -> RunResult:
    """Train what a recipe says, evaluate it and write its report; go on, or report, where that is begun.

    Args:
        out: The run folder itself; by default one named after recipe and id in `runs`.
        fresh: Rename a folder that is there, and start anew.
        again: Repeat in a folder of its own.
        trial: The study that the run is part of, and its arm; none if it is on its own.
        watch: Called with each event as it is recorded, instead of showing progress.
        progress: Show it, where there is a terminal or a notebook.

    Raises:
        Diverged: The loss stopped being finite.
        Stopped: A signal came; the run can be resumed.
        GenkitError: Anything else that the user can mend.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    planned = planning.plan(recipe, Path(out) if out else None, device)
    if again:
        planned = attrs.evolve(planned, folder=_unused(planned.folder))
    if not trial and processes.gather(not (planned.folder / "lock.json").exists())[0]:
        planned.try_out()  # a study has tried its arms
    signals.leave()  # nothing is written yet
    if processes.rank() > 0:
        return _follow(planned)
    lock.require_ours(planned)
    if fresh and planned.folder.exists():
        with store.held(planned.folder):
            planned.folder.rename(_unused(planned.folder.with_name(planned.folder.name + ".old")))
    with store.held(planned.folder), watching(watch, progress) as told:
        return _run(planned, list(trial), told)


def _unused(folder: Path) -> Path:
    names = (folder.with_name(f"{folder.name}-{i}") for i in range(2, 10_000))
    return folder if not folder.exists() else next(name for name in names if not name.exists())


def _follow(planned: Plan) -> RunResult:
    """What a process other than the first does: what that one says, the same steps, nothing recorded."""
    state, folder = planned.state(processes.gather(None)[0]), planned.folder
    with signals.caught() as stop:

        def measured() -> dict[str, Any]:
            return evaluating.measured(planned, state, loop.heeding(stop, folder, state.k))

        try:
            if state.k < planned.recipe.train.steps and processes.gather(None)[0]:  # an evaluation is owed
                measured()
            for figures in train(state, planned.data, planned.recipe.train):
                if loop.due(planned.recipe, state.k, stop):
                    read_back(state, figures)
                    if any(processes.gather(stop.signal is not None)):
                        raise stop.stopped(folder, state.k)
                if loop.evaluate_due(planned.recipe, state.k):
                    measured()
        except Stopped:
            processes.gather(None)  # stay until the first process has saved
            raise
        found = {} if processes.gather(None)[0] else measured()
    return RunResult(folder=folder, id=planned.id, figures=results.figures_of(found), evaluation=found)


def _run(planned: Plan, trial: list[str], watch: Watch) -> RunResult:
    recipe, folder = planned.recipe, planned.folder
    notices = lock.claim(planned)
    hooks = Hooks(tell := lambda **what: watch(store.event(folder, **what)), Trackers(recipe.trackers, tell))
    progress = scoring.progress(watch)
    checkpoint.sweep(folder / "checkpoints")
    newest, passed = checkpoint.latest(folder / "checkpoints")
    processes.gather(newest)
    last_words = functools.partial(hooks.tell, event="end", outcome="preempted", text="a second signal; not saved")
    with planned.settled() as threads, signals.caught(last_words) as stop, hooks.trackers:
        if newest and checkpoint.step_of(newest) >= recipe.train.steps:
            lock.keep(planned, trial)
            notices.append("this run is done; --again repeats it, --fresh begins anew")
            heed = loop.heeding(stop, folder, recipe.train.steps, progress)
            evaluated = _evaluated(planned, None, newest, hooks, heed)
        else:
            state = planned.state(newest)
            notices += [*state.program.notices, *lock.write(planned, state, threads, trial)]
            evaluated = _live(planned, state, newest, [*passed, *notices], hooks, stop, progress)
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
    planned: Plan,
    state: State,
    newest: Path | None,
    notices: list[str],
    hooks: Hooks,
    stop: Signals,
    progress: scoring.Watch,
) -> dict[str, Any]:
    """From the newest checkpoint to the last step and its figures, with the hooks at both ends."""
    recipe, folder, outcome = planned.recipe, planned.folder, "done"
    try:
        hooks("genkit_run_start", folder=folder, recipe=recipe, key=keys.Key(recipe.train.seed, state.k))
        loop.run(planned, state, "resume" if newest else "start", notices, hooks, stop)
        return _evaluated(planned, state, newest, hooks, loop.heeding(stop, folder, state.k, progress))
    except BaseException as error:
        outcome = outcome_of(error)
        with contextlib.suppress(GenkitError):  # a disk that is full is told already
            hooks.tell(event="end", outcome=outcome, k=state.k, text=f"{error or type(error).__name__}")
        raise
    finally:
        hooks("genkit_run_end", folder=folder, outcome=outcome, key=keys.Key(recipe.train.seed, state.k))


def _evaluated(
    planned: Plan, state: State | None, newest: Path | None, hooks: Hooks, progress: scoring.Watch
) -> dict[str, Any]:
    """The final pictures and figures: those on record if the protocol is the same, else made now."""
    recipe, folder = planned.recipe, planned.folder
    file = evaluating.evaluation_file(folder, recipe)
    found = records.read(file, records.ANEW) if recipe.metrics else {"steps": {}}
    if not processes.gather(evaluating.is_final(planned, found))[0]:
        if state is None:
            state = planned.state(newest)
            hooks.trackers.open(lock.tracked(planned, state.k))
        evaluating.show(planned, state, "final", hooks)
        evaluating.show_data(planned)
        found = evaluating.recorded(planned, state, hooks, progress)
    if store.summary(folder).state != "done":
        hooks.tell(event="end", outcome="done", k=recipe.train.steps)
    return found
