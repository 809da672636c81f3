"""Trials through a launcher: what is missing runs, what another study holds is waited for, nothing runs twice."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs

from genkit.data import atomic, records
from genkit.errors import GenkitError, RecipeError, Stopped
from genkit.runs import store
from genkit.training.signals import Signals, caught
from genkit_studies import keeping, planning
from genkit_studies.pool import Job
from genkit_studies.study import Arm, Study, Trial, save
from genkit_studies.worker import OUT_OF_MEMORY, reason

INTERVAL = 0.05  # seconds between two looks at the jobs
FAILED = ("crashed", "out-of-memory")
LEFT = (75, 130, -signal.SIGTERM)  # how a job ends that was told to leave; the last before it could listen
Watch = Callable[[Study], None]
K = TypeVar("K")


def missing(study: Study, only: str = "") -> list[int]:
    """The trials that are to be run, by number: those that are not done; seed by seed, so that arms can be compared.

    Args:
        only: "failed": those alone that crashed or ran out of memory.
    """
    wanted = [i for i, t in enumerate(study.trials) if (t.state in FAILED if only else t.state not in planning.ENDED)]
    return sorted(wanted, key=lambda i: study.seeds.index(study.trials[i].seed))


def through(launcher: Any, jobs: Mapping[K, Job]) -> dict[K, int]:
    """Run jobs to their ends; their exit codes.

    Raises:
        Stopped: A signal came; the jobs were told to leave.
    """
    waiting, running, codes = list(jobs), dict[K, Any](), dict[K, int]()
    with caught() as stop:
        while waiting or running:
            while waiting and len(running) < launcher.slots and stop.signal is None:
                key = waiting.pop(0)
                running[key] = launcher.submit(jobs[key])
            if stop.signal is not None:
                _cancel(launcher, running)
                raise _stopped(stop, Path("study"), "before a trial began")
            time.sleep(INTERVAL)
            for key, handle in list(running.items()):
                if (code := launcher.poll(handle)) is not None:
                    del running[key]
                    codes[key] = code
    return {key: codes[key] for key in jobs}


def try_out(study: Study, launcher: Any, device: str, arms: Sequence[Arm]) -> dict[str, dict[str, float]]:
    """Two steps of each arm; the "seconds" that a trial of it will take, those of its "evaluation" among them.

    An arm that lacks memory is left out: others may have had it, so its trials are tried all the same.

    Raises:
        RecipeError: Arms that cannot run for other reasons, all of them, and why.
    """
    with tempfile.TemporaryDirectory(prefix="genkit-") as temporary:
        jobs = {arm.label: _tryout(Path(temporary), i, arm, device) for i, arm in enumerate(arms)}
        codes = through(launcher, jobs)
        problems: list[GenkitError] = []
        for label, code in codes.items():
            if code not in (0, OUT_OF_MEMORY):
                why = reason(jobs[label].log) or f"ended with {code}"
                problems.append(RecipeError(f"arm {label!r}", f"two steps of it fail: {why}"))
        if problems:
            raise RecipeError.of([str(problem) for problem in problems])
        return {label: records.read(jobs[label].log.with_suffix(".json")) for label, code in codes.items() if not code}


def _tryout(folder: Path, number: int, arm: Arm, device: str) -> Job:
    written = folder / f"{number}.toml"
    atomic.write(written, arm.recipe.toml())
    argv = ("estimate", str(written), "--device", device, "--out", str(written.with_suffix(".json")))
    return Job(argv=argv, log=written.with_suffix(".txt"))


@attrs.define(eq=False)
class Progress:
    """A study that runs: the trials that wait, those that run, and the study as it is."""

    study: Study
    launcher: Any
    device: str
    watch: Watch
    waiting: list[int]
    running: dict[int, Any] = attrs.field(factory=dict)

    def note(self, number: int, trial: Trial) -> None:
        """Put a trial's new state on record."""
        trials = list(self.study.trials)
        if trials[number] == trial:
            return
        trials[number] = trial
        self.study = attrs.evolve(self.study, trials=tuple(trials))
        save(self.study)
        self.watch(self.study)

    def refresh(self, number: int) -> Trial:
        trial = self.study.trials[number]
        return planning.refresh(trial, self._arm(trial).recipe)

    def _arm(self, trial: Trial) -> Arm:
        return next(arm for arm in self.study.arms if arm.label == trial.arm)

    def begin(self) -> None:
        """Fill the slots with trials that wait and that nobody holds."""
        for number in list(self.waiting):
            if len(self.running) >= self.launcher.slots:
                return
            now = self.refresh(number)
            if now.state in planning.ENDED:
                self.waiting.remove(number)
                self.note(number, now)
            elif now.state == "running":  # somebody else's: they may finish it
                self.note(number, now)
            else:
                self.waiting.remove(number)
                self.running[number] = self.launcher.submit(self.job(number))
                self.note(number, attrs.evolve(now, state="running", reason=""))

    def job(self, number: int) -> Job:
        """`genkit run` on the trial's recipe, which is in the study's folder while it runs, and so is its log."""
        trial, (recipe, log) = self.study.trials[number], self._files(number)
        atomic.write(recipe, planning.recipe_of(self._arm(trial), trial.seed).toml())
        argv = ("run", str(recipe), "--out", str(trial.folder), "--device", self.device, "--trial")
        return Job(argv=argv, log=log)

    def _files(self, number: int) -> tuple[Path, Path]:
        trial = self.study.trials[number]
        name = f"{self.study.arms.index(self._arm(trial)):02d}-seed{trial.seed}"
        recipe = self.study.folder / "trials" / f"{name}.toml"
        return recipe, recipe.with_suffix(".txt")

    def end(self) -> list[Trial]:
        """Take note of the trials that have ended since the last look."""
        ended = []
        for number, handle in list(self.running.items()):
            code = self.launcher.poll(handle)
            if code is not None:
                del self.running[number]
                ended.append(self._outcome(number, code))
                self.note(number, ended[-1])
        return ended

    def _outcome(self, number: int, code: int) -> Trial:
        """What a trial came to: as its run has recorded it, else by the exit code; another's run is waited for."""
        why = _why(code, self._files(number)[1]) if code else "it ended without figures"
        failed = "out-of-memory" if code == OUT_OF_MEMORY else "preempted" if code in LEFT else "crashed"
        now = self.refresh(number)
        if now.state == "done":
            keeping.tidy(now, self._arm(now).recipe, self._files(number))
        if now.state == "running":
            self.waiting.append(number)
        elif now.state not in planning.ENDED:  # whatever was told before it was taken up again
            now = attrs.evolve(now, state=failed, reason=why)
            begun = (now.folder / "lock.json").is_file()
            if failed in FAILED and begun and store.summary(now.folder).state != "done":  # that lacks other figures
                store.event(now.folder, event="end", outcome=failed, text=why)
        return now


def _why(code: int, log: Path) -> str:
    if code < 0:
        return f"killed by signal {-code}" + (" (the system may have lacked memory)" if code == -9 else "")
    return reason(log) or f"ended with {code}"


def run(planned: Study, launcher: Any, device: str, *, only: str = "", fail_fast: bool = False, watch: Watch) -> Study:
    """Run what is missing of a study; arms that fail do not stop the others.

    Args:
        only: "failed": run those alone that crashed or ran out of memory.
        fail_fast: Stop all trials at the first that fails.
        watch: Called with the study whenever a trial has changed.

    Raises:
        Stopped: A signal came; the trials have saved, and the same command goes on.
    """
    save(planned)
    progress = Progress(planned, launcher, device, watch, missing(planned, only))
    leaving = False
    with caught() as stop:
        while progress.running or (progress.waiting and not leaving):
            if not leaving:
                progress.begin()
            time.sleep(INTERVAL if progress.running else 10 * INTERVAL)
            failed = any(trial.state in FAILED for trial in progress.end())
            if not leaving and (stop.signal is not None or (fail_fast and failed)):
                leaving = True
                _cancel(launcher, progress.running)
        if stop.signal is not None:
            raise _stopped(stop, planned.folder, _told(progress.study))
    return progress.study


def _cancel(launcher: Any, running: Mapping[K, Any]) -> None:
    for handle in running.values():
        launcher.cancel(handle)


def _told(study: Study) -> str:
    done = sum(trial.state in planning.ENDED for trial in study.trials)
    return f"{done} of {len(study.trials)} trials are done, and those that ran have saved"


def _stopped(stop: Signals, where: Path, what: str) -> Stopped:
    code = stop.stopped(where, 0).exit_code
    return Stopped(where, f"{signal.Signals(stop.signal or 0).name}; {what}", "the same command goes on", code)
