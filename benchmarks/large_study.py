"""A study of 1,000 finished trials: CPU time to give its command again, to list its runs, and its page.

    OMP_NUM_THREADS=1 python benchmarks/large_study.py [--arms 10] [--seeds 100]

One trial of ict_ring is run for a few steps; the others are copies of its folder with the id, recipe and seed of the
trial that they stand for, and figures drawn from a log-normal law, as the store would have them. Then the same command
is given again, which finds all of them done: printed is its CPU time, that of processes it starts included, which is to
be below 3 s, imports being most of it; so are the time to make the page, and its size, which is to be below 1 MB. A
trial's files and bytes are those of the one that was run. On a busy machine CPU time is up to twice as long: imports
alone, which are told beside it, say how much.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from genkit.data import records
from genkit_studies import comparison, page, planning, study
from genkit_studies.ablation import ablate, ask
from genkit_studies.study import Arm, Trial

FEW = ["train.steps=20", "evaluate.samples=300", "train.batch_size=16"]


def words(arms: int) -> str:
    return "loss.c=" + ",".join(f"{0.001 * (i + 1):.4g}" for i in range(arms - 1))


def copied(arm: Arm, trial: Trial, model: Path, rng: np.random.Generator) -> None:
    """A finished trial's folder, whose checkpoint is a link to that of the model."""
    shutil.copytree(model, trial.folder, copy_function=os.link)
    seeded = planning.recipe_of(arm, trial.seed)
    for name in ("recipe.toml", "lock.json", *(f"evaluations/{path.name}" for path in model.glob("evaluations/*"))):
        path = trial.folder / name
        text = path.read_text()
        path.unlink()  # the link, not the model's
        if name == "recipe.toml":
            path.write_text(seeded.toml())
            continue
        told = json.loads(text)
        if name == "lock.json":
            told["id"] = trial.id
        for row in told.get("steps", {}).values() if name != "lock.json" else ():
            row["figures"] = {
                figure: float(v * np.exp(0.35 * rng.standard_normal())) for figure, v in row["figures"].items()
            }
        records.write(path, told)


def spent(*argv: str) -> tuple[float, float, str]:
    """CPU and wall seconds of Python with some words, and of its children; and what it printed."""
    begun = time.monotonic()
    process = subprocess.Popen([sys.executable, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    told = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(told)
    return usage.ru_utime + usage.ru_stime, time.monotonic() - begun, told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=100)
    asked = parser.parse_args()
    swap, rng = words(asked.arms), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as runs:
        os.environ["GENKIT_RUNS"] = runs
        (model, *_) = ablate("ict_ring", [swap.partition(",")[0]], FEW, seeds=(0,), device="cpu").trials
        files = [path for path in model.folder.rglob("*") if path.is_file()]
        planned = planning.plan(ask("ict_ring", [swap], FEW, seeds=tuple(range(asked.seeds))), "cpu")
        arms = {arm.label: arm for arm in planned.arms}
        for trial in planned.trials:
            if not trial.folder.exists():
                copied(arms[trial.arm], trial, model.folder, rng)
        again = [
            "-m",
            "genkit",
            "ablate",
            "ict_ring",
            *FEW,
            "--swap",
            swap,
            "--seeds",
            str(asked.seeds),
            "--device",
            "cpu",
        ]
        spent(*again)
        print(f"load {os.getloadavg()[0]:.2f}; {study.counted(planned)}")
        print(f"a trial: {len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.2f} MB")
        imports = ["-c", "import torch, scipy.special, scipy.optimize"]
        listed = ["-m", "genkit", "runs", "list"]
        for what, argv in (("the same command again", again), ("runs list", listed), ("imports alone", imports)):
            cpu, wall, told = spent(*argv)
            print(f"{what}: {cpu:.2f} s CPU, {wall:.2f} s wall, {told.count(chr(10))} lines")
        done = study.load(study.find("latest"))
        assert {trial.state for trial in done.trials} == {"done"}, study.states(done.trials)
        begun = time.process_time()
        size = page.write(done, comparison.compare(done)).stat().st_size
        print(f"its page: {time.process_time() - begun:.2f} s CPU, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
