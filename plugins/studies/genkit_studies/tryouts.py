"""Try-outs: two steps of each arm before its trials, which say whether it runs and how long a trial takes."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from genkit.data import records
from genkit.errors import GenkitError, RecipeError
from genkit.runs import store
from genkit_studies.jobs import AGAIN, PREEMPTED, Queue
from genkit_studies.ledger import End, Job, Ledger
from genkit_studies.study import Arm, Study
from genkit_studies.worker import OUT_OF_MEMORY, reason


def through(queue: Queue, jobs: Mapping[str, Job]) -> dict[str, End]:
    """Run jobs to their ends, those anew that a machine ended; how they ended. Others, of before a kill, leave.

    Raises:
        Stopped: A signal came; the jobs were told to leave.
    """
    waiting, codes, tries = [key for key in jobs if key not in queue.open], dict[str, End](), Counter[str]()
    queue.cancel(queue.known.keys() - jobs.keys())
    with queue.heeding() as stop:
        while len(codes) < len(jobs) or queue.known:
            if stop.signal is not None:
                queue.cancel()
                raise queue.stopped(Path("study"), "before a trial began")
            if count := queue.free(len(waiting)):
                queue.submit({key: jobs[key] for key in waiting[:count]})
                del waiting[:count]
            queue.wait(queue.pause)
            ended = queue.ended()
            for key, code in ((key, ended[key]) for key in jobs if key in ended):  # others' results are there already
                tries[key] += 1
                if code in PREEMPTED and tries[key] <= AGAIN:
                    waiting.append(key)
                else:
                    codes[key] = code
    return {key: codes[key] for key in jobs}


def try_out(study: Study, queue: Queue, arms: Sequence[Arm]) -> dict[str, dict[str, float]]:
    """Two steps of each arm; the "seconds" that a trial of it will take, those of its "evaluation" among them.

    They are made in the study's folder, which machines share, and leave nothing there. What was tried before a kill is
    not tried again. An arm that lacks memory is left out: others may have had it, so its trials are tried all the same.

    Raises:
        RecipeError: Arms that cannot run for other reasons, all of them, and why.
    """
    with _alone(study.folder):  # another submitter of the study does so before, or afterwards
        found = _try_out(study.folder / "tryouts", queue, arms)
    return {label: seconds for label, seconds in found.items() if seconds}


def _try_out(folder: Path, queue: Queue, arms: Sequence[Arm]) -> dict[str, dict[str, float]]:
    jobs = {arm.label: _tryout(folder, arm, queue) for arm in arms}
    keys = {label: job.log.stem for label, job in jobs.items()}
    by_key = {keys[label]: job for label, job in jobs.items() if not job.log.with_suffix(".json").is_file()}
    codes = through(queue.at(folder), by_key)
    problems: list[GenkitError] = []
    for label, job in jobs.items():
        code = codes.get(keys[label], 0)
        if code not in (0, OUT_OF_MEMORY):
            why = reason(job.log) or f"ended with {code}"
            problems.append(RecipeError(f"arm {label!r}", f"two steps of it fail: {why}"))
    found = {label: records.read(job.log.with_suffix(".json")) for label, job in jobs.items()}
    shutil.rmtree(folder, ignore_errors=True)
    if problems:
        raise RecipeError.of([str(problem) for problem in problems])
    return found


def _tryout(folder: Path, arm: Arm, queue: Queue) -> Job:
    key = hashlib.sha256((queue.device + arm.recipe.toml()).encode()).hexdigest()[:12]
    store.keep_recipe(written := folder / f"{key}.toml", arm.recipe)
    argv = ("estimate", str(written), *queue.words, "--out", str(written.with_suffix(".json")))
    return Job(argv=argv, log=written.with_suffix(".txt"), cards=int(queue.device != "cpu"), tryout=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a study's folder; one that nobody has begun is gone afterwards, with those above it that are empty then."""
    try:
        with Ledger(folder).alone():
            try:
                yield
            finally:
                if not (folder / "study.json").is_file():
                    (folder / ".jobs").unlink(missing_ok=True)
    finally:
        with suppress(OSError):
            for empty in (folder, folder.parent, store.root()):
                empty.rmdir()
