"""Several small jobs as one, for launchers: those that fill a card together, and those that are over too soon.

A pack is a file of JSON beside a study's trials, {"at_a_time": …, "jobs": {key: {"argv": …, "log": …}}}, and the job
`genkit ablate jobs FILE`, which imports everything once, forks for each, and writes down beside it how each has ended.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from genkit.data import atomic
from genkit.training.signals import SIGNALS
from genkit_studies.ledger import Job
from genkit_studies.pool import threads

OVERHEAD = 0.1  # of the time of its trials that a job may take to start
SOON = 1.0  # seconds: what starts sooner is no matter
PREEMPTED = 75


def at_a_time(job: Job, launcher: Any) -> int:
    """How many jobs that need a part of a card run beside each other within one, where a launcher gives whole cards."""
    return 1 if getattr(launcher, "shares", False) or not 0 < job.cards < 1 else int(1 / job.cards)


def grouped(jobs: Mapping[str, Job], start: float, launcher: Any) -> list[dict[str, Job]]:
    """Jobs that need the same, in their order, so many together that their start is no more than `OVERHEAD`.

    Args:
        start: Seconds until a job has begun.
    """
    done: list[dict[str, Job]] = []
    begun: dict[tuple[object, ...], dict[str, Job]] = {}
    for key, job in jobs.items():
        need = (job.cards, job.cpus, job.tryout)
        group = begun.setdefault(need, {})
        group[key] = job
        beside = at_a_time(job, launcher)
        if len(group) >= beside and _long_enough(group.values(), start, beside):
            done.append(begun.pop(need))
    return [*done, *begun.values()]


def _long_enough(jobs: Iterable[Job], start: float, beside: int) -> bool:
    seconds = sum(job.seconds or math.inf for job in jobs)
    return start < SOON or start <= OVERHEAD * seconds / beside


def of(file: Path, jobs: Mapping[str, Job], launcher: Any) -> Job:
    """The job that runs some jobs; of a single one, itself."""
    first = next(iter(jobs.values()))
    if len(jobs) == 1:
        return first
    beside = at_a_time(first, launcher)
    told = {key: {"argv": job.argv, "log": str(job.log)} for key, job in jobs.items()}
    atomic.write(file, json.dumps({"at_a_time": beside, "jobs": told}))
    return Job(
        argv=("ablate", "jobs", str(file)), log=file.with_suffix(".txt"), cards=first.cards * beside,
        cpus=first.cpus * beside, memory=beside * max(job.memory for job in jobs.values()),
        seconds=sum(job.seconds for job in jobs.values()) / beside, tryout=first.tryout,
    )  # fmt: skip


def at(folder: Path, name: str, number: int) -> Path:
    """The file of a pack of a submission."""
    return folder / "packs" / f"{name}-{number}.json"


def codes(file: Path) -> dict[str, int]:
    """How the jobs of a pack have ended, as far as they have."""
    ends = file.with_suffix(".ends")
    lines = ends.read_text().splitlines() if ends.is_file() else []
    return {key: int(code) for key, _, code in (line.rpartition(" ") for line in lines)}


def explain(file: Path, log: Path) -> None:
    """Have the log of a job that never began say what its pack said."""
    said = file.with_suffix(".txt")
    if said.is_file() and not log.exists():
        atomic.write(log, said.read_text(errors="replace"))


def remove(file: Path) -> None:
    for path in (file, file.with_suffix(".ends"), file.with_suffix(".txt")):
        path.unlink(missing_ok=True)


def run(file: Path) -> int:
    """Run the jobs of a pack that have not ended; the exit code: 75 if a signal came before all had.

    Signals are those of the jobs: each is told to save and leave, and none is begun any more.
    """
    from genkit_studies import worker

    told = json.loads(file.read_text())
    os.environ |= threads(told["at_a_time"]) if told["at_a_time"] > 1 else {}
    signal.pthread_sigmask(signal.SIG_BLOCK, {*SIGNALS, signal.SIGCHLD})
    for name in worker.WARM:
        importlib.import_module(name)
    ended = codes(file)
    waiting = [key for key in told["jobs"] if ended.get(key, PREEMPTED) == PREEMPTED]
    running, left = dict[int, str](), False
    while running or (waiting and not left):
        while waiting and not left and len(running) < told["at_a_time"]:
            key = waiting.pop(0)
            running[_forked(told["jobs"][key])] = key
        if signal.sigwait({*SIGNALS, signal.SIGCHLD}) != signal.SIGCHLD:
            left = True
            for pid in running:
                os.kill(pid, signal.SIGTERM)
        _reap(running, file.with_suffix(".ends"))
    return PREEMPTED if left and waiting else 0


def _forked(job: Mapping[str, Sequence[str]]) -> int:
    from genkit_studies import worker

    if pid := os.fork():
        return pid
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})  # the others, once it can listen
    worker._call(job)
    return 0


def _reap(running: dict[int, str], ends: Path) -> None:
    """Write down how jobs have ended; several ends may be one signal."""
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = found
            with ends.open("a") as file:
                file.write(f"{running.pop(pid)} {os.waitstatus_to_exitcode(status)}\n")
