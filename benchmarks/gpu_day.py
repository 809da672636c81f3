"""Everything that must be known about a card, most telling first, in stages of at most nine minutes.

    python benchmarks/gpu_day.py [--device cuda] [--stages correct,step-ncsnpp] [--minutes 9] [--out FOLDER]
        [--work FOLDER] [--set key=value ...] [--tiny] [-- --peer PATH --script ct_train.py ... -- WORDS]

Each stage is a process of its own and writes `FOLDER/DEVICE-STAGE.json` with device, versions and command, case by
case; the same command goes on where it stopped, however it was ended, and tries again what failed or was skipped. Runs
lie in `FOLDER/work`. What stands behind the first `--` goes to `peers.py`. `--tiny` is the same code at sizes that a
CPU has done in seconds, into `FOLDER/tiny-DEVICE-STAGE.json`; such results say nothing about speed. The proxy of
CIFAR-10 looks for the data where a recipe does, and downloads them where it may; `--set dataset.use=hdf5
dataset.path=FILE` gives it others.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from gpu import correct, cost, use
from gpu.day import Cases, Day, through

from genkit_bench import chips

STAGES: dict[str, Callable[[Day], Cases]] = {
    "correct": correct.cases,
    "recipes": correct.recipes,
    "compiled": correct.compiled,
    **{f"step-{name}": functools.partial(cost.cases, name=name) for name in cost.PAPERS},
    "peer": cost.peer,
    "samples": use.samples,
    "figures": use.figures,
    "proxy": use.proxy,
}
FOLDER = Path(__file__).parent / "results"


def file_of(folder: Path, device: str, stage: str, tiny: bool) -> Path:
    return folder / f"{'tiny-' * tiny}{chips.name(device).replace(' ', '-')}-{stage}.json"


def alone(stage: str, minutes: float) -> int:
    """A stage in processes of its own, all ended where it takes longer than it may; its exit code."""
    words = [sys.executable, *sys.argv[:1], "--stage", stage, *sys.argv[1:]]
    with subprocess.Popen(words, start_new_session=True) as process:
        try:
            return abs(process.wait(60 * minutes))
        except subprocess.TimeoutExpired:
            print(f"{stage}: ended after {minutes:g} minutes; the same command goes on", flush=True)
            return 75
        finally:  # none of its runs goes on without it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--minutes", type=float, default=9.0, help="of a stage")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--work", type=Path, default=None, help="for runs, which go on there")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="settings of the proxy's recipes")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--stage", default="", help=argparse.SUPPRESS)
    parser.add_argument("peer", nargs="*", help="behind --: words for peers.py")
    given = parser.parse_args()
    if not given.stage:
        codes = {stage: alone(stage, given.minutes) for stage in given.stages.split(",")}
        sys.exit(max(codes.values()))
    file = file_of(given.out, given.device, given.stage, given.tiny)
    work = (given.work or given.out / "work") / file.stem
    work.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * given.minutes - 20
    day = Day(given.device, given.tiny, work, tuple(given.set), tuple(given.peer), until)
    done = through(day, given.stage, STAGES[given.stage](day), file)
    sys.exit(0 if done else 75)


if __name__ == "__main__":
    main()
