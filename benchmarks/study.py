"""What a study costs over its trials: the ratios of wall time, on an otherwise idle machine.

    python benchmarks/study.py [STEPS]

Eight trials of ict_digits (two arms, four seeds) one at a time, then again two at a time, each with one
thread. Printed are the wall time of the first over the sum of its trials' own times, by their events, which is to be
at most 1.05, and the wall time of the first over that of the second, which is to be at least 1.7 on two cores. The
load of the machine beforehand is printed too: above a fraction of one, the figures say little. With the default of
1,500 steps a trial takes about a minute.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time

os.environ["OMP_NUM_THREADS"] = "1"

from genkit_studies import launching, planning, running, tryouts
from genkit_studies.ablation import ask


def timed(jobs: int, steps: int) -> tuple[float, float]:
    """(wall time, sum of the trials' own times) of a study, from a cold start of its slots."""
    with tempfile.TemporaryDirectory() as runs:
        os.environ["GENKIT_RUNS"] = runs
        settings = [f"train.steps={steps}", "train.sample_every_steps=0", "metrics.pr=false"]
        question = ask("ict_digits", ["loss=l2"], settings, seeds=(0, 1, 2, 3))
        begun = time.monotonic()
        with launching.launched(launching.chosen(jobs=jobs), "cpu") as (queue, here):
            planned = planning.plan(question, here)
            tryouts.try_out(planned, queue, planned.arms)
            done = running.run(planned, queue)
        wall = time.monotonic() - begun
    assert {trial.state for trial in done.trials} == {"done"}, done.trials
    return wall, sum(trial.seconds for trial in done.trials)


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1500
    print(f"load {os.getloadavg()[0]:.2f} on {len(os.sched_getaffinity(0))} cores")
    one, own = timed(1, steps)
    print(f"one at a time: {one:.1f} s wall, {own:.1f} s of trials: ratio {one / own:.3f}")
    two, own = timed(2, steps)
    print(f"two at a time: {two:.1f} s wall, {own:.1f} s of trials: {one / two:.2f} times sooner")


main()
