"""A study while it runs: a live table on a terminal; elsewhere a line whenever a trial begins or ends."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from genkit.cli import show
from genkit.evaluation import results
from genkit_reports import live, notebook
from genkit_studies import comparison, study, table
from genkit_studies.comparison import Row
from genkit_studies.study import Arm, Study, Trial

MANY = 500  # trials; of more, the table is drawn less than once a second
SEEDS = 6  # with more, an arm's trials are counted instead of shown
TROUBLE = ("diverged", "crashed", "out-of-memory", "preempted")
Watch = Callable[[Study], None]
Measured = Mapping[str, Mapping[str, float]]  # seconds of a trial of each arm, and of its evaluation, by a try-out
Share = Callable[[Trial], float]


def each(of: Study, arm: Arm, measured: Measured, trained: bool = False) -> float:
    """Seconds that a trial of an arm takes: as its own took, else as measured beforehand, else as others took.

    Args:
        trained: It is only evaluated.
    """
    part = "evaluation" if trained else "seconds"
    own, others = ([getattr(t, part) for t in ts if t.state == "done"] for ts in (of.of(arm), of.trials))
    evaluations = (
        max(1, arm.recipe.evaluations_after(0)) if trained else 1
    )  # a try-out counts those during training, too
    known = own or ([measured[arm.label][part] / evaluations] if arm.label in measured else others)
    return sum(known) / len(known) if known else 0.0


def left(of: Study, trials: Iterable[Trial], measured: Measured, slots: int, share: Share = lambda trial: 0.0) -> float:
    """Seconds that some trials of a study still take, spread over the slots; no less than the longest of them."""
    times = {(arm.label, only): each(of, arm, measured, only) for arm in of.arms for only in (False, True)}
    todo = [times[t.arm, t.trained] * (1 - share(t) * (not t.trained)) for t in trials]
    return max([sum(todo) / slots, *todo], default=0.0)


def open_trials(planned: Study, wanted: Iterable[int], now: Study) -> list[Trial]:
    """Of the trials that are to be run, by number, those that run or were not begun since the plan."""
    return [t for i in wanted if (t := now.trials[i]).state in ("queued", "running") or t == planned.trials[i]]


def board(of: Study, rows: Sequence[Row], share: Share) -> list[list[str]]:
    """A header and a row for each arm: each seed's figure or how far it is, then what the arm came to so far.

    Args:
        rows: Of `comparison.compare`.
        share: Which part of its steps a trial has taken.
    """
    name = next(iter(comparison.figure_names(of)), of.metric)
    single = len(of.seeds) <= SEEDS
    seeds = [f"seed {seed}" for seed in of.seeds] if single else ["trials"]
    body = []
    for row in rows:
        trials = of.of(row.arm)
        cells = [_cell(t, name, share) for t in trials] if single else [study.states(trials)]
        body.append([row.arm.label, *cells, *table.cells(row, name)])
    return [["arm", *seeds, name or "figure", table.AGAINST], *body]


def _cell(trial: Trial, name: str, share: Share) -> str:
    if trial.state == "done":
        return f"{trial.figures[name]:.3g}" if name in trial.figures else "done"
    if trial.state == "running":
        return f"{share(trial):.0%}" if share(trial) < 1 else "evaluating"
    return "·" if trial.state == "todo" else trial.state


COUNTED = {
    "done": ("done", "diverged"),
    "running": ("running",),
    "queued": ("queued",),
    "to do": ("todo", "preempted"),
    "failed": ("crashed", "out-of-memory"),
}


def counts(of: Study) -> dict[str, int]:
    """How many trials are done, run, wait for a machine, are still to be submitted, and have failed."""
    return {word: sum(t.state in states for t in of.trials) for word, states in COUNTED.items()}


def told(of: Study, seconds: float) -> str:
    """How far a study is, in a line.

    Args:
        seconds: That it still takes.
    """
    numbers = ", ".join(f"{n} {word}" for word, n in counts(of).items() if n)
    return f"{len(of.trials)} trials: {numbers}; {show.clock(seconds)} left"


def shares(of: Study) -> Share:
    """Which part of its steps each trial of a study has taken, as its run tells."""
    steps = {arm.label: arm.recipe.train.steps for arm in of.arms}
    return lambda trial: newest_step(trial.folder) / steps[trial.arm] if trial.state == "running" else 0.0


@contextmanager
def watching(planned: Study, wanted: Sequence[int], measured: Measured, slots: int) -> Iterator[Watch]:
    """A watcher of a study, as the notebook or stderr can show it.

    Args:
        wanted: The trials that are to be run, by number.
    """
    if live.in_notebook():
        with live.cell() as draw:
            yield lambda now: draw(_cells(now, planned, wanted, measured, slots))
            draw("")
    elif sys.stderr.isatty():
        with _table(planned, wanted, measured, slots) as watch:
            yield watch
    else:
        yield _lines(planned, show.say, study.STATES)


def shown() -> bool:
    """Whether somebody looks on: at a terminal or a notebook."""
    return live.in_notebook() or sys.stderr.isatty()


def _cells(now: Study, planned: Study, wanted: Sequence[int], measured: Measured, slots: int) -> str:
    """A bar and a table, as HTML."""
    share, ended = shares(now), sum(t.state in ("done", "diverged") for t in now.trials)
    seconds = left(now, open_trials(planned, wanted, now), measured, slots, share)
    bar = live.bar(ended, len(now.trials), told(now, seconds))
    return bar + notebook.table(board(now, comparison.compare(now), share))


@contextmanager
def _table(planned: Study, wanted: Sequence[int], measured: Measured, slots: int) -> Iterator[Watch]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    now, rows = planned, list[Row]()

    def drawn() -> Group:
        nonlocal rows
        rows, share = rows or comparison.compare(now), shares(now)
        seconds = left(now, open_trials(planned, wanted, now), measured, slots, share)
        return Group(show.drawn(board(now, rows, share)), Text(told(now, seconds)))

    console = Console(stderr=True)
    tell = _lines(planned, lambda text: console.print(text, markup=False, highlight=False), TROUBLE)
    often = min(1.0, MANY / max(1, len(planned.trials)))
    with Live(get_renderable=drawn, console=console, refresh_per_second=often, transient=True):

        def watch(study: Study) -> None:
            nonlocal now, rows
            now, rows = study, []
            tell(study)

        yield watch


def _lines(planned: Study, say: Callable[[str], None], states: Sequence[str]) -> Watch:
    """A line for each trial that comes into one of some states."""
    known = list(planned.trials)

    def watch(now: Study) -> None:
        for i, trial in enumerate(now.trials):
            if trial.state != known[i].state and trial.state in states:
                say(line(trial, now.metric, again=planned.trials[i].trained))
            known[i] = trial

    return watch


def line(trial: Trial, metric: str, again: bool = False) -> str:
    """A trial's state, figures and time in words.

    Args:
        again: It was trained before, and only evaluated now.
    """
    shown = {
        n: v for n, v in trial.figures.items() if (n == metric if metric in trial.figures else not results.is_floor(n))
    }
    figures = "".join(f"  {name} {value:.3g}" for name, value in shown.items())
    took = f"  {show.clock(trial.evaluation)} to evaluate" if again else f"  {show.clock(trial.seconds)}"
    took = took if trial.state == "done" else ""
    return f"{trial.arm}, seed {trial.seed}: {trial.state}{figures}{took}{': ' * bool(trial.reason)}{trial.reason}"


def newest_step(folder: Path) -> int:
    """The last step that a run has told, from the end of its events; 0 if none."""
    path = folder / "events.jsonl"
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        told = re.findall(rb'"k": (\d+)', file.read())
    return int(told[-1]) if told else 0
