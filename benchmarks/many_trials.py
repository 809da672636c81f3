"""10,000 trials on 500 slots by one submitter: memory, CPU time, polls, files, the time of the plan and of the page.

    OMP_NUM_THREADS=1 python benchmarks/many_trials.py [--arms 20] [--seeds 500] [--slots 500] [--minutes 10]

The launcher is a stand-in. A job takes half to one and a half `--minutes` on a clock that only goes on while the
submitter waits; then it is a copy of the folder of one trial of ict_ring, which is run beforehand. Times are CPU
seconds of this process without those of the stand-in: on a busy machine they are up to twice as long.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from large_study import FEW, copied, words

from genkit import Setup, component
from genkit_studies import attached, comparison, jobs, page, planning, running, study
from genkit_studies.ablation import ablate, ask
from genkit_studies.study import Study


class Standing:
    """A launcher whose jobs end after a time on the clock, and have then made their runs."""

    pause = 2.0

    def __init__(self, slots: int, seconds: float, clock: Any, made: Callable[[str], None]) -> None:
        self.slots, self.room, self.seconds, self.clock, self.made = slots, 2 * slots, seconds, clock, made
        self.waiting: dict[str, str] = {}
        self.begun: dict[str, float] = {}
        self.calls = {"submit": 0, "poll": 0}
        self.spent, self.rng = 0.0, np.random.default_rng(0)

    @contextmanager
    def _counted(self, name: str) -> Iterator[None]:
        begun = time.process_time()
        self.calls[name] += 1
        yield
        self.spent += time.process_time() - begun

    def submit(self, name: str, some: Any) -> list[str]:
        with self._counted("submit"):
            handles = [f"{name}.{i}" for i in range(len(some))]
            self.waiting |= {
                handle: job.argv[job.argv.index("--out") + 1] for handle, job in zip(handles, some, strict=True)
            }
            return handles

    def poll(self, handles: Any) -> dict[str, int | str]:
        with self._counted("poll"):
            now, found = self.clock.monotonic(), dict[str, int | str]()
            for handle in [handle for handle, until in self.begun.items() if now >= until]:
                del self.begun[handle]
                self.made(self.waiting.pop(handle))
                found[handle] = 0
            for handle in list(self.waiting):
                if len(self.begun) < self.slots:
                    self.begun.setdefault(handle, now + self.seconds * self.rng.uniform(0.5, 1.5))
            return found | {h: "runs" if h in self.begun else "waits" for h in handles if h not in found}


@contextmanager
def told(what: str, launcher: Any = None) -> Iterator[None]:
    before, spent = time.process_time(), launcher.spent if launcher else 0.0
    yield
    seconds = time.process_time() - before - ((launcher.spent - spent) if launcher else 0.0)
    print(
        f"{what}: {seconds:.1f} s CPU, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB", flush=True
    )


def ran(planned: Study, slots: int, seconds: float, model: Path) -> Study:
    """The study after its trials, and what they took."""
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s))
    jobs.time = running.time = clock  # type: ignore[attr-defined]
    rng, saves = np.random.default_rng(0), list[int]()
    by_folder = {str(trial.folder): trial for trial in planned.trials}

    def made(folder: str) -> None:
        trial = by_folder[folder]
        if not trial.folder.exists():
            copied(planned.arm(trial), trial, model, rng)

    def saved(of: Study) -> None:
        study.save(of)
        saves.append((of.folder / "study.json").stat().st_size)

    running.save = saved  # type: ignore[assignment]
    launcher = Standing(slots, seconds, clock, made)
    queue = jobs.Queue(component=component("launcher", "local"), setup=Setup(), device="cpu")
    queue.built[queue.table] = launcher
    files = [0]

    def watch(of: Study) -> None:
        files[0] = max(files[0], sum(1 for _ in os.scandir(of.folder / "trials")))

    with told("its trials", launcher):
        done = running.run(planned, queue, watch=watch)
    minutes = now[0] / 60
    print(f"{minutes:.0f} min on the clock; {launcher.calls['submit']} submissions", end=", ")
    print(f"{launcher.calls['poll'] / minutes:.1f} polls a minute")
    print(
        f"study.json: written {len(saves)} times, {sum(saves) / 1e6:.0f} MB in all, {saves[-1] / 1e6:.1f} MB at the end"
    )
    print(f"the ledger: {(done.folder / 'events.jsonl').stat().st_size / 1e6:.1f} MB")
    print(f"files in its folder: at most {files[0]} while it runs, {sum(1 for _ in done.folder.rglob('*'))} at the end")
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("arms", 20), ("seeds", 500), ("slots", 500), ("minutes", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    swap = words(asked.arms)
    with tempfile.TemporaryDirectory() as runs:
        os.environ["GENKIT_RUNS"] = runs
        (model, *_) = ablate("ict_ring", [swap.partition(",")[0]], FEW, seeds=(0,), device="cpu").trials
        question = ask("ict_ring", [swap], FEW, seeds=tuple(range(asked.seeds)))
        print(f"load {os.getloadavg()[0]:.2f}")
        with told("the plan"):
            planned = planning.plan(question, "cpu")
        print(study.counted(planned))
        done = ran(planned, asked.slots, 60 * asked.minutes, model.folder)
        assert {trial.state for trial in done.trials} == {"done"}, study.states(done.trials)
        with told("the plan again"):
            planning.plan(question, "cpu")
        with told("its status"):
            attached.look(done.folder)
        with told("its page"):
            size = page.write(done, comparison.compare(done)).stat().st_size
        print(f"the page: {size / 1e6:.2f} MB; a trial: {sum(p.is_file() for p in model.folder.rglob('*'))} files")


if __name__ == "__main__":
    main()
