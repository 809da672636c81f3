"""What two processes of one training lose against two trainings that know nothing of each other, one thread each.

    python benchmarks/scaling.py [RECIPE] [key=value ...] [--steps 10] [--rounds 15] [--json FILE]

Two pairs of processes stand ready with the recipe (ict_digits with batches of 64, if nothing else is said): one that
meets by gloo and shares each batch, and one of which each takes batches of half the size by itself. The pairs take
`--steps` steps by turns, so that whatever else the machine does slows both. Told are the images a second of each pair
and the ratio of the first to the second, as a geometric mean over rounds with a 95% interval by Student's t; at least
0.9 is wanted. On a machine with fewer than two free cores the figures say little.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WARMUP = 3  # steps, and torch's first ones are slower
DEFAULT = ["ict_digits", "train.batch_size=64"]


def work(recipe: str, settings: list[str]) -> None:
    """What each process does: for each number that it reads, so many steps; it tells the seconds."""
    import torch

    from genkit import load_recipe
    from genkit.runs import planning
    from genkit.training.step import train

    torch.set_num_threads(1)
    planned = planning.plan(load_recipe(recipe, settings), device="cpu")
    steps = train(planned.state(), planned.data, planned.recipe.train)
    for words in sys.stdin:
        begun = time.monotonic()
        for _ in range(int(words)):
            next(steps)
        print(time.monotonic() - begun, flush=True)


class Pair:
    """Two such processes, that meet or do not."""

    def __init__(self, together: bool, words: list[str]) -> None:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            place = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
        command = [sys.executable, __file__, "--work", *words]
        piped: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.processes = [
            subprocess.Popen(
                command,
                env={**os.environ, "OMP_NUM_THREADS": "1", **(place if together else {}), "RANK": rank},
                **piped,
            )
            for rank in "01"
        ]

    def seconds(self, steps: int) -> list[float]:
        """What each process takes for so many steps, both at once."""
        for process in self.processes:
            process.stdin.write(f"{steps}\n")
            process.stdin.flush()
        return [float(process.stdout.readline()) for process in self.processes]

    def end(self) -> None:
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            process.wait()


def measured(words: list[str], batch: int, steps: int, rounds: int) -> dict[str, list[float]]:
    """Images a second of both pairs in each round."""
    settings = [*words, f"train.steps={(WARMUP + rounds * steps) * 2}"]
    pairs = {"together": Pair(True, settings), "apart": Pair(False, [*settings, f"train.batch_size={batch // 2}"])}
    rates: dict[str, list[float]] = {name: [] for name in pairs}
    for pair in pairs.values():
        pair.seconds(WARMUP)
    for n in range(rounds):
        for name in sorted(pairs, reverse=bool(n % 2)):
            rates[name].append(sum(batch / 2 * steps / taken for taken in pairs[name].seconds(steps)))
    for pair in pairs.values():
        pair.end()
    return rates


def ratio_of(rates: dict[str, list[float]]) -> list[float]:
    """The geometric mean of the rounds' ratios, and the ends of its 95% interval."""
    from scipy import stats

    logs = [math.log(one / other) for one, other in zip(rates["together"], rates["apart"], strict=True)]
    mean, half = statistics.fmean(logs), stats.t.ppf(0.975, len(logs) - 1) * stats.sem(logs)
    return [math.exp(mean + by * half) for by in (0, -1, 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", default=DEFAULT, metavar="RECIPE key=value")
    parser.add_argument("--steps", type=int, default=10, help="steps of a turn")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each pair, from 2")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_intermixed_args()
    if given.work:
        work(given.words[0], given.words[1:])
        return
    import torch

    from genkit import load_recipe

    batch = load_recipe(given.words[0], given.words[1:]).train.batch_size
    load = os.getloadavg()[0]
    rates = measured(given.words, batch, given.steps, given.rounds)
    ratio, low, high = ratio_of(rates)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"load {load:.2f} on {len(os.sched_getaffinity(0))} cores; a batch of {batch}")
    print("pair                        images/s")
    for name, text in {"together": "one training, by gloo", "apart": "two trainings"}.items():
        print(f"{text:<24} {medians[name]:>11.1f}")
    print(f"ratio {ratio:.3f} [{low:.3f}, {high:.3f}]")
    made = {"torch": torch.__version__, "machine": platform.processor() or platform.machine(), "load": load}
    said = {"command": ["benchmarks/scaling.py", *sys.argv[1:]], **made, "batch_size": batch, "images_per_sec": rates}
    if given.json:
        given.json.write_text(json.dumps({**said, "ratio": ratio, "interval": [low, high]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
