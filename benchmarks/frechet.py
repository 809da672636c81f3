"""What a Fréchet distance costs beside scipy.linalg.sqrtm, the reference's factor at hand: ratios of CPU time.

    python benchmarks/frechet.py [--features 2048] [--repeats 3]

Both in turn, in one process and on one thread; the least of each is compared. Covariances have variances that
fall as powers, as those of networks do, and do not commute; the exact distance is known.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from genkit_metrics.frechet import distance_from_factors, factor

torch.set_num_threads(1)


def laws(d: int) -> tuple[Tensor, Tensor, float]:
    """Covariances S and A S A, and their distance tr((I - A) S (I - A)); means are zero."""
    generator = torch.Generator().manual_seed(0)
    q, r = (torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q for _ in range(2))
    s = (q * torch.arange(1, d + 1, dtype=torch.float64) ** -1.5) @ q.T
    a = (r * torch.linspace(0.3, 2.5, d, dtype=torch.float64)) @ r.T
    move = torch.eye(d, dtype=torch.float64) - a
    return s, a @ s @ a, float((move @ s @ move).trace())


def measured(work: Callable[[], float]) -> tuple[float, float]:
    before = time.process_time()
    value = work()
    return time.process_time() - before, value


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    s1, s2, exact = laws(args.features)
    zero, reference = torch.zeros(args.features), factor(s1)
    left, right = s1.numpy(), s2.numpy()

    def root() -> float:
        return float(np.trace(left) + np.trace(right) - 2 * np.trace(scipy.linalg.sqrtm(left @ right).real))

    ways = {"sqrtm": root, "factors": lambda: distance_from_factors(zero, reference, zero, factor(s2))}
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(args.repeats):
        for name, work in ways.items():
            runs[name].append(measured(work))
    least = {name: min(found)[0] for name, found in runs.items()}
    for name, found in runs.items():
        error = abs(found[0][1] / exact - 1)
        print(f"{name:8} {least[name]:7.2f} CPU s, relative error {error:.1e}")
    print(f"{least['sqrtm'] / least['factors']:.2f} times as fast, at {args.features} features")


main()
