"""Bytes a parameter that a training holds, and what a step takes on top, over the same of its networks' bare passes.

    OMP_NUM_THREADS=1 python benchmarks/memory.py [--batches 1,16] [--device cpu] [--json FILE]

iCT with a U-Net of 1.5 million weights on random 32x32 images. Least is 20 bytes: weights, gradients, two moments and
an average in float32. What is taken is the most that is allocated at a time during a step, beyond what was before.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from shared import SMALL, on_random, written

from genkit.cli import show
from genkit_bench import memory
from genkit_bench.measuring import Bench


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for batch in map(int, given.batches.split(",")):
        settings = ["train.precision=float32", f"train.batch_size={batch}"]
        made = Bench.of(on_random("ict_cifar10", settings, [SMALL], given.device))
        held = memory.held(made.state) / sum(p.numel() for p in made.state.program.student.parameters())
        taken = made.taken()
        found.append({"batch": batch, "bytes_per_parameter": held, **taken, "ratio": taken["step"] / taken["floor"]})
    rows = [
        [str(f["batch"]), f"{f['bytes_per_parameter']:.2f}", *(f"{f[s] / 2**20:.1f}" for s in ("step", "floor")),
         f"{f['ratio']:.3f}"]
        for f in found
    ]  # fmt: skip
    show.table([["batch", "bytes a parameter", "step, MiB", "floor, MiB", "ratio"], *rows])
    written(given.json, given.device, found)


if __name__ == "__main__":
    main()
