"""A training step over its floor, and its bookkeeping beyond floor, optimizer and average.

    OMP_NUM_THREADS=1 python benchmarks/step.py [RECIPE] [key=value ...] [--steps 150] [--device cpu] [--json FILE]

Without a recipe: iCT with a U-Net of 1.5 million weights on random 32x32 images, at batch 1 and 16. The floor is the
passes of the step's networks alone; both sides take turns in one process on one state. On a CPU the time is that of
the process, one thread, so that other work on the machine counts little; a ratio has a 95% interval.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from shared import SMALL, on_random, written

from genkit import load_recipe
from genkit.cli import show
from genkit.runs import planning
from genkit_bench import measuring

BATCHES = (1, 16)


def measured(planned: planning.Plan, steps: int) -> dict[str, Any]:
    clock = time.perf_counter if planned.context.device.startswith("cuda") else time.process_time
    rounds = measuring.ROUNDS if clock is time.perf_counter else steps  # a card is to have several steps in its queue
    return measuring.measure(planned, steps, clock=clock, rounds=rounds)


def row(found: dict[str, Any]) -> list[str]:
    seconds, ratio, extra = found["seconds"], found["ratio"], found["bookkeeping"]
    return [
        found["recipe"],
        str(found["batch_size"]),
        *(f"{1000 * seconds[side]:.2f}" for side in ("step", "floor", "lean")),
        f"{ratio['median']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]",
        f"{1000 * extra['median']:.2f} [{1000 * extra['low']:.2f}, {1000 * extra['high']:.2f}]",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--steps", type=int, default=150, help="of each side, at least 6")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    if given.recipe:
        plans = [planning.plan(load_recipe(given.recipe, given.overrides), device=given.device)]
    else:
        settings = ["train.precision=float32", "train.threads=1", "name=unet-1.5M"]
        each = [[*settings, f"train.batch_size={batch}"] for batch in BATCHES]
        plans = [on_random("ict_cifar10", overrides, [SMALL], given.device) for overrides in each]
    found = [measured(planned, max(6, given.steps)) for planned in plans]
    show.table([["recipe", "batch", "step, ms", "floor", "lean", "step / floor", "bookkeeping, ms"], *map(row, found)])
    written(given.json, given.device, found)


if __name__ == "__main__":
    main()
