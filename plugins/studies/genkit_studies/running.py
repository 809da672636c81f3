"""Trials as jobs: what is missing runs, what another study holds is waited for, nothing runs twice."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from genkit.errors import Stopped
from genkit.kernel import discovery
from genkit.runs import store
from genkit.training import checkpoint
from genkit_studies import keeping, planning, progress
from genkit_studies.jobs import AGAIN, INTERVAL, PREEMPTED, Queue
from genkit_studies.ledger import GONE, End, Job
from genkit_studies.study import Study, Trial, save
from genkit_studies.worker import OUT_OF_MEMORY, reason

A_SECOND = 100  # trials of a study that is saved every second as it runs; one of twice as many every other second
FAILED = ("crashed", "out-of-memory")
SAME = "the same `genkit ablate` goes on"
Watch = Callable[[Study], None]


def missing(study: Study, only: str = "") -> list[int]:
    """The trials that are to be run, by number: those that are not done; seed by seed, so that arms can be compared.

    Args:
        only: "failed": those alone that crashed or ran out of memory.
    """
    wanted = [i for i, t in enumerate(study.trials) if (t.state in FAILED if only else t.state not in planning.ENDED)]
    return sorted(wanted, key=lambda i: study.seeds.index(study.trials[i].seed))


@attrs.define(eq=False)
class Progress:
    """A study that runs: the trials that wait, the jobs of those that do not, and the study as it is.

    Attributes:
        measured: What `try_out` found, as far as it was made.
    """

    study: Study
    queue: Queue
    watch: Watch
    waiting: list[int]
    measured: Mapping[str, Mapping[str, float]] = attrs.field(factory=dict)
    numbers: dict[str, int] = attrs.field(init=False)
    tries: dict[int, tuple[int, int]] = attrs.field(factory=dict)
    saved: float = -math.inf

    def __attrs_post_init__(self) -> None:
        self.numbers = {trial.id: i for i, trial in enumerate(self.study.trials)}
        self.waiting = [i for i in self.waiting if self.study.trials[i].id not in self.queue.open]

    @property
    def busy(self) -> bool:
        """Whether there are jobs that have not ended, or whose end is not on record."""
        return bool(self.queue.open)

    def note(self, *noted: tuple[int, Trial]) -> None:
        """Put the new states of trials on record."""
        trials = list(self.study.trials)
        for number, trial in noted:
            trials[number] = trial
        if trials != list(self.study.trials):
            self.study = attrs.evolve(self.study, trials=tuple(trials))
            if time.monotonic() - self.saved >= len(trials) / A_SECOND:
                self.keep()
            self.watch(self.study)

    def keep(self) -> None:
        """Save the study; what is saved is what the runs and the ledger tell, too."""
        save(self.study)
        self.saved = time.monotonic()

    def refresh(self, number: int) -> Trial:
        trial = self.study.trials[number]
        return planning.refresh(trial, self.study.arm(trial).recipe)

    def begin(self) -> None:
        """Submit trials that wait and that nobody holds, as many as there is room for."""
        free = self.queue.free(len(self.waiting))
        chosen: dict[int, Trial] = {}
        for number in list(self.waiting):
            if len(chosen) >= free:
                break
            now = self.refresh(number)
            if now.state in planning.ENDED:
                self.waiting.remove(number)
                self.note((number, now))
            elif now.state == "running":  # somebody else's: they may finish it
                self.note((number, now))
            else:
                self.waiting.remove(number)
                chosen[number] = now
        if chosen:
            self.queue.submit({now.id: self.job(number) for number, now in chosen.items()})
            begun = {n: attrs.evolve(now, state=self._under_way(now.id), reason="") for n, now in chosen.items()}
            self.note(*begun.items())

    def _under_way(self, key: str) -> str:
        known = self.queue.known.get(key)
        return "queued" if known and known.state == "waits" else "running"

    def job(self, number: int) -> Job:
        """`genkit run` on the trial's recipe, which is in the study's folder while it runs, and so is its log."""
        trial, (recipe, log) = self.study.trials[number], self._files(number)
        store.keep_recipe(recipe, planning.recipe_of(self.study.arm(trial), trial.seed))
        told = (*self.queue.words, "--trial", self.study.name, trial.arm)
        argv = ("run", str(recipe), "--out", str(trial.folder), *told)
        arm = self.study.arm(trial)
        return Job(
            argv=argv, log=log, cards=self.queue.cards,
            memory=int(1.5 * self.measured.get(arm.label, {}).get("memory", 0)),
            cpus=(arm.recipe.train.threads or 1) + getattr(arm.recipe.dataset, "workers", 0),
            seconds=progress.each(self.study, arm, self.measured, trial.trained),
        )  # fmt: skip

    def _files(self, number: int) -> tuple[Path, Path]:
        trial = self.study.trials[number]
        name = f"{self.study.arms.index(self.study.arm(trial)):02d}-seed{trial.seed}"
        recipe = self.study.folder / "trials" / f"{name}.toml"
        return recipe, recipe.with_suffix(".txt")

    def end(self, leaving: bool = False) -> list[Trial]:
        """Take note of the trials that have ended since the last look, and of those that have begun."""
        ended = {self.numbers[key]: code for key, code in self.queue.ended().items() if key in self.numbers}
        noted = {number: self._outcome(number, code) for number, code in ended.items()}
        for number, trial in noted.items():
            preempted = trial.state == "preempted" and ended[number] in PREEMPTED
            if preempted and not leaving and self._worth_another(number):
                self.waiting.append(number)
        for number, key in ((self.numbers[key], key) for key in self.queue.known if key in self.numbers):
            if self.study.trials[number].state != (state := self._under_way(key)):
                noted[number] = attrs.evolve(self.study.trials[number], state=state, reason="")
        self.note(*noted.items())
        return [noted[number] for number in ended]

    def _worth_another(self, number: int) -> bool:
        """Whether a trial that a machine ended is submitted again: not for ever from the same checkpoint."""
        there = checkpoint.present(self.study.trials[number].folder / "checkpoints")
        k = checkpoint.step_of(there[-1]) if there else 0
        before, count = self.tries.get(number, (k, 0))
        self.tries[number] = k, (count if k == before else 0) + 1
        return self.tries[number][1] <= AGAIN

    def _outcome(self, number: int, code: End) -> Trial:
        """What a trial came to: as its run has recorded it, else by the exit code; another's run is waited for."""
        failed, why = failure(code, self._files(number)[1])
        now = self.refresh(number)
        if now.state == "done":
            keeping.tidy(now, self.study.arm(now).recipe, self._files(number))
        if now.state == "running":
            self.waiting.append(number)
        elif now.state not in planning.ENDED:  # whatever was told before it was taken up again
            now = attrs.evolve(now, state=failed, reason=why)
            begun = (now.folder / "lock.json").is_file()
            if failed in FAILED and begun and store.summary(now.folder).state != "done":  # that lacks other figures
                store.event(now.folder, event="end", outcome=failed, text=why)
        return now


def failure(code: End, log: Path) -> tuple[str, str]:
    """The state of a trial whose job ended without figures, and why."""
    state = "out-of-memory" if code == OUT_OF_MEMORY else "preempted" if code in (*PREEMPTED, 130) else "crashed"
    if code == GONE:
        return state, "its launcher knows it no more"
    if int(code) < 0:
        return state, f"killed by signal {-int(code)}" + " (the system may have lacked memory)" * (code == -9)
    return state, (reason(log) or f"ended with {code}") if code else "it ended without figures"


def run(
    planned: Study,
    queue: Queue,
    wanted: Sequence[int] | None = None,
    *,
    fail_fast: bool = False,
    detach: bool = False,
    anew: bool = True,
    watch: Watch = lambda study: None,
    measured: Mapping[str, Mapping[str, float]] | None = None,
) -> Study:
    """Run what is missing of a study; arms that fail do not stop the others.

    Args:
        wanted: The trials that are to be run, by number; else all that are missing.
        fail_fast: Stop all trials at the first that fails.
        detach: Only submit them, as many as there is room for.
        anew: Go on with it also where it was cancelled.
        watch: Called with the study whenever a trial has changed.
        measured: What `try_out` found.

    Raises:
        Stopped: A signal came, or somebody cancelled the study; the trials have saved, and the same command goes on.
    """
    save(planned)
    for arm in planned.arms:
        discovery.installed().manager.hook.genkit_recipe_kept(path=planned.folder / "study.json", recipe=arm.recipe)
    queue = queue.at(planned.folder)
    if anew:
        queue.ledger.go_on()
    waiting = missing(planned) if wanted is None else list(wanted)
    with queue.heeding() as stop:
        going = Progress(planned, queue, watch, waiting, measured or {})
        if detach:
            going.begin()
            going.keep()
            return going.study
        leaving = False
        while going.busy or (going.waiting and not leaving):
            if not leaving:
                going.begin()
            queue.wait(queue.pause if going.busy else 10 * INTERVAL)
            failed = any(trial.state in FAILED for trial in going.end(leaving))
            if not leaving and (stop.signal is not None or queue.ledger.cancelled or (fail_fast and failed)):
                leaving = True
                queue.cancel()
        going.keep()
        if stop.signal is not None:
            raise queue.stopped(planned.folder, _told(going.study))
        if queue.ledger.cancelled:
            raise Stopped(planned.folder, f"cancelled; {_told(going.study)}", SAME, PREEMPTED[0])
    return going.study


def _told(study: Study) -> str:
    done = sum(trial.state in planning.ENDED for trial in study.trials)
    return f"{done} of {len(study.trials)} trials are done, and those that ran have saved"
