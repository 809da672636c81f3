"""A study whose command has left: how it is, seen from any machine with its folder, waited for, or cancelled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from genkit.cli import show
from genkit.data import records
from genkit.errors import DataError
from genkit.kernel import resolving
from genkit.kinds import Setup
from genkit.runs import store
from genkit_studies import launching, planning, progress, running, study
from genkit_studies.jobs import Queue
from genkit_studies.ledger import GONE, End, Known, Ledger
from genkit_studies.study import Study, Trial

FROM_HERE = "the same `genkit ablate` goes on with it"


def look(folder: Path) -> tuple[Study, int]:
    """A study as the store and its launchers have it, and how many trials run at a time; nothing is written."""
    now, ledger = _there(folder)
    queue, how, slots = _queue(ledger), dict[str, End](), 1
    for table, keys in ledger.by_table(ledger.known).items():
        try:
            found = queue.of(table).poll([ledger.known[key].handle for key in keys])
            how |= {key: found.get(ledger.known[key].handle, GONE) for key in keys}
            slots = max(slots, int(queue.of(table).slots))
        except Exception as error:  # its commands may not be here
            use, why = json.loads(table)["use"], " ".join(str(error).split())
            show.say(f"note: {use} is not asked, and runs alone tell: {why}")
    trials = tuple(_seen(trial, ledger.known.get(trial.id), how.get(trial.id)) for trial in now.trials)
    return attrs.evolve(now, trials=trials), max(slots, sum(trial.state == "running" for trial in trials))


def wait(folder: Path) -> Study:
    """Look after the jobs of a study until the last has ended: those that a machine ended are submitted again.

    So are those for which there was no room before. If it was cancelled, nothing is.

    Raises:
        DataError: It has no jobs that outlive their command.
        Stopped: A signal came, or somebody cancelled it.
    """
    now, ledger = _there(folder)
    last = _last(ledger, folder)
    wanted = [] if ledger.cancelled else [i for i in running.missing(now) if now.trials[i].state not in running.FAILED]
    with (
        launching.launched(_component(last.table), last.device) as (queue, _),
        progress.watching(now, wanted, now.measured, queue.slots) as watch,
    ):
        queue.share(now.measured, round(1 / (last.job.cards or 1)))
        return running.run(now, queue, wanted, watch=watch, measured=now.measured, anew=False)


def cancel(folder: Path) -> int:
    """Have all jobs of a study save and leave, and whoever looks after them; how many there were."""
    _, ledger = _there(folder)
    ledger.cancel()
    _queue(ledger).cancel()
    return len(ledger.known)


def _there(folder: Path) -> tuple[Study, Ledger]:
    ledger = Ledger(folder)
    ledger.fold()
    kept = records.read(folder / "study.json", study.AGAIN)
    return planning.refreshed(study.load(folder), kept), ledger


def _queue(ledger: Ledger) -> Queue:
    device = ledger.last.device if ledger.last else ""
    return Queue(
        component=resolving.component("launcher", launching.LOCAL),
        setup=Setup(device=device),
        device=device,
        ledger=ledger,
    )


def _last(ledger: Ledger, folder: Path) -> Known:
    if ledger.last is None or json.loads(ledger.last.table)["use"] == launching.LOCAL:
        raise DataError(folder, "its trials run in the command that began it", FROM_HERE)
    return ledger.last


def _component(table: str) -> Any:
    settings = json.loads(table)
    return resolving.component("launcher", settings.pop("use"), **settings)


def _seen(trial: Trial, known: Known | None, how: End | None) -> Trial:
    """A trial as its job says, where its run does not say more."""
    if known is None or trial.state in planning.ENDED or trial.state == "running":
        return trial
    if isinstance(how, int) or how == GONE:
        state, why = running.failure(how, known.job.log)
        return attrs.evolve(trial, state=state, reason=why)
    last = next((e["event"] for e in reversed(store.events(trial.folder)) if e["event"] != "notice"), "end")
    runs = how == "runs" or (how is None and last != "end")
    return attrs.evolve(trial, state="running" if runs else "queued", reason="")
