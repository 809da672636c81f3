"""What `genkit ablate` says: the plan before anything runs, and what came of it, the verdict last."""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from genkit.cli import show
from genkit_reports import notebook
from genkit_studies import comparison, packs, progress, running, study, table, usual
from genkit_studies.comparison import Row
from genkit_studies.jobs import Queue
from genkit_studies.progress import Measured
from genkit_studies.study import Arm, Study, Trial

WIDE = 120  # letters of a line
TOLD = 10  # trials that are told by name when they failed


def lacking(untried: Sequence[Arm], measured: Measured) -> list[str]:
    """Of arms that lacked memory in their try-out."""
    lacking = [arm.label for arm in untried if arm.label not in measured]
    return [f"{label}: two steps of it lack memory; the others run all the same" for label in lacking]


def idle(planned: Study, wanted: Sequence[int], only: str) -> list[str]:
    """Why `--only failed` runs nothing, though not all is done."""
    todo = len(running.missing(planned))
    if not only or wanted or not todo:
        return []
    return [f"no trial has failed, so that nothing runs; {todo} are to do: give the command without --only"]


def plan(planned: Study, wanted: list[int], measured: Measured, slots: int, to_stdout: bool) -> float:
    """Show what will be done; the seconds that it will take."""
    rows = [["arm", "changes", "trials", "about"]]
    trials = [planned.trials[i] for i in wanted]
    for arm in planned.arms:
        todo = [trial for trial in trials if trial.arm == arm.label]
        rows.append([arm.label, _changes(arm), study.states(planned.of(arm)), _about(planned, arm, todo, measured)])
    out = sys.stdout if to_stdout else sys.stderr
    show.table(rows, file=out)
    for arm in (arm for arm in planned.arms if _many(arm)):
        text = f"{arm.label}: {'; '.join(arm.changes)}"
        print(textwrap.fill(text, WIDE, subsequent_indent="  ", break_on_hyphens=False), file=out)
    show.say(f"{study.counted(planned)}, {_to_run(planned, trials, measured, slots)}")
    for sentence in comparison.outlook(planned) or comparison.outlook(planned, *usual.noise(planned)):
        show.say(sentence)
    show.say(f"study {planned.folder}")
    return progress.left(planned, trials, measured, slots)


def _many(arm: Arm) -> bool:
    return len("; ".join(arm.changes)) > WIDE


def _changes(arm: Arm) -> str:
    """What an arm changes, or where that is told if it is too much for a table."""
    return f"{len(arm.changes)} changes, below" if _many(arm) else "; ".join(arm.changes) or "-"


def _about(planned: Study, arm: Arm, todo: list[Trial], measured: Measured) -> str:
    """How long an arm's trials take: "2 x 0:01:00, 3 x 0:00:05 to evaluate"."""
    parts = []
    for trained, words in ((False, ""), (True, " to evaluate")):
        if number := sum(trial.trained == trained for trial in todo):
            parts.append(f"{number} x {show.clock(progress.each(planned, arm, measured, trained))}{words}")
    return ", ".join(parts) or "-"


def _to_run(planned: Study, trials: list[Trial], measured: Measured, slots: int) -> str:
    """How many trials are to be run or only evaluated, and how long that takes."""
    if not trials:
        return "0 to run"
    again = [trial for trial in trials if trial.trained]
    whole, only, clock = (
        progress.left(planned, some, measured, n) for some, n in ((trials, 1), (again, slots), (trials, slots))
    )
    few = f", {len(again)} of them only evaluated, as they are trained (about {show.clock(only)})" if again else ""
    return (
        f"{len(trials)} to run{few}; about {whole / 3600:.2g} device hours, {show.clock(clock)} with {slots} at a time"
    )


def at_a_time(planned: Study, wanted: Sequence[int], measured: Measured, queue: Queue) -> int:
    """How many trials run at a time: those of a job come one after the other, or as many as share its card."""
    seconds = progress.left(planned, [planned.trials[i] for i in wanted], measured, 1)
    if queue.start < packs.SOON or not seconds:
        return queue.slots
    together = math.ceil(packs.OVERHEAD * seconds / (queue.start * queue.sharing)) * queue.sharing
    return min(queue.slots, together)


def packed(planned: Study, wanted: Sequence[int], queue: Queue) -> Iterator[str]:
    """What jobs cost beyond their trials, and how many trials they have for it."""
    times = [t for i in wanted if (t := progress.each(planned, planned.arm(planned.trials[i]), planned.measured))]
    if queue.sharing > 1:
        yield f"{queue.sharing} trials share a card"
    if times and queue.start >= packs.SOON:
        each = sum(times) / len(times)
        together = math.ceil(queue.start / (packs.OVERHEAD * each))
        yield f"a job takes {queue.start:.1f} s to start, {queue.start / each:.0%} of a trial" + (
            f"; so up to {together} trials are one job" * (together > 1)
        )


def submitted(done: Study, wanted: Sequence[int], json: bool) -> None:
    """What a command that leaves has submitted, and how one comes back to it."""
    if json:
        show.as_json(study.as_plain(done))
        return
    under_way = sum(done.trials[i].state in ("queued", "running") for i in wanted)
    name = done.folder.name
    print(f"{under_way} trials are submitted: {done.folder}")
    if rest := sum(done.trials[i].state in ("todo", "preempted", *running.FAILED) for i in wanted):
        print(f"{rest} wait for room: `genkit ablate wait {name}` submits them")
    print(f"`genkit ablate status {name}` says how far they are; `wait` stays until they are done, `cancel` ends them")


def status(now: Study, slots: int) -> None:
    """How far a study is: the arms, what failed, and the trials counted."""
    share = progress.shares(now)
    waited = [trial for trial in now.trials if trial.state in comparison.OPEN]
    show.table(progress.board(now, comparison.compare(now), share))
    for text in _troubles(now):
        print(text)
    print(progress.told(now, progress.left(now, waited, now.measured, slots, share)))


def compared(done: Study, rows: list[Row], files: Sequence[Path]) -> None:
    """Tables, what has failed, how many trials there are, files; and the verdict last."""
    for name in comparison.figure_names(done) or [""]:
        show.table(table.table(done, rows, name))
        print()
    for text in _troubles(done):
        print(text)
    for path in files:
        print(path)
    print(f"\n{_counts(done)}")
    for sentence in comparison.sentences(done, rows):
        print(sentence)


def html(done: Study) -> str:
    """What a notebook shows of a study: the tables, what failed, and the verdict last."""
    rows, names = comparison.compare(done), comparison.figure_names(done)
    tables = "".join(notebook.table(table.table(done, rows, name)) for name in names or [""])
    said = [*_troubles(done), str(done.folder), _counts(done), *comparison.sentences(done, rows)]
    return tables + "".join(f"<div>{escape(text)}</div>" for text in said)


def _troubles(done: Study) -> list[str]:
    """A line for each trial that is not what it should be, as far as anybody reads on."""
    told = [trial for trial in done.trials if trial.reason]
    lines = [f"{t.folder}  {t.arm}, seed {t.seed}: {t.state}: {t.reason}" for t in told[:TOLD]]
    return lines + [f"… and {len(told) - TOLD} more, in {done.folder / 'study.json'}"] * (len(told) > TOLD)


def _counts(done: Study) -> str:
    """One line: "2 arms, seeds 0, 1: 4 trials: 3 done, 1 crashed; they took 0:41:00"."""
    spent = show.clock(sum(trial.seconds for trial in done.trials))
    return f"{study.counted(done)}: {study.states(done.trials)}; they took {spent}"
