"""`genkit run … --launcher NAME`: the run as a job, which the command submits once and leaves."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from genkit.errors import RecipeError
from genkit.kernel import resolving
from genkit.runs import store
from genkit_studies import launching
from genkit_studies.ledger import Job

OURS = ("--launcher", "--nodes", "--gpus")
ANEW = ("--fresh", "--again")


def submit(launcher: str, nodes: int, gpus: int, device: str | None, argv: Sequence[str]) -> None:
    """Submit a command, unless it is submitted and has not ended; tell its job and its log.

    Args:
        launcher: As in `--launcher`; else that of the user's configuration.
        gpus: Processes on each node.
        argv: The words after `genkit`.

    Raises:
        RecipeError: The launcher is this machine, or has no jobs of several nodes, or the run could not go on.
    """
    for option in (option for option in ANEW if option in argv):
        what = "a job that is preempted would not go on, but begin anew"
        raise RecipeError(option, what, "leave it out, and give --out with a folder of its own")
    component = launching.chosen(launcher)
    if resolving.plain(component)["use"] == launching.LOCAL:
        raise RecipeError("--launcher", "local is this machine", "leave it out; for several machines see torchrun")
    with launching.launched(component, device) as (queue, _):
        if nodes > 1 and not getattr(queue.launcher, "spans", False):
            raise RecipeError("--nodes", f"{launcher} has no jobs of {nodes} nodes", "leave it out")
        key, job = _job(nodes, gpus, device, _without_ours(argv))
        there = queue.at(job.log.parent)
        before = key in there.known
        there.submit({key: job})
        known = there.known.get(key)
        _tell(known.handle if known else key, known.state if known else "ended", job.log, before)


def _job(nodes: int, gpus: int, device: str | None, words: list[str]) -> tuple[str, Job]:
    """The job of a command, by what is the same whenever the command is."""
    spread = [] if nodes > 1 or gpus == 1 else ["--gpus", str(gpus)]
    key = hashlib.sha256("\0".join([os.getcwd(), *words, f"{nodes} {gpus}"]).encode()).hexdigest()[:10]
    each = gpus if nodes > 1 else 1
    job = Job(
        argv=(*words, *spread), log=store.root() / "jobs" / key / "log.txt", cards=0 if device == "cpu" else gpus,
        cpus=gpus // each, nodes=nodes, processes=each,
    )  # fmt: skip
    return key, job


def _tell(handle: str, state: str, log: Path, before: bool) -> None:
    print(f"job {handle}: {'there already, ' * before}{state}; its log is {log}")
    print("`genkit runs list` shows how far it is; once it has ended, the same command submits it again")


def _without_ours(argv: Sequence[str]) -> list[str]:
    """A command without the options that say where it runs."""
    kept, words = list[str](), iter(argv)
    for word in words:
        if word in OURS:
            next(words, None)
        elif not word.startswith(tuple(f"{option}=" for option in OURS)):
            kept.append(word)
    return kept
