"""Times that are taken in turn, and what their ratio is, with an interval."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

Times = list[dict[str, float]]
LEAST = 6  # values for a 95% interval: among 5, all lie on one side of the median in 1 case of 16


class Interval(NamedTuple):
    """A median, and a 95% interval for the median of what the values were drawn from; none if they are too few."""

    median: float
    low: float | None
    high: float | None


def interval(values: Sequence[float]) -> Interval:
    """The median, from the j-th value to the j-th from above, whatever law the values have.

    A value falls below the true median as often as above. So the interval misses it with chance
    2 P(Bin(n, 1/2) < j); j is the greatest for which that is at most 5%.

    Source: Thompson 1936, Annals of Mathematical Statistics 7(3).
    """
    n, ordered = len(values), sorted(values)
    miss, j = 0.0, 0
    while (miss := miss + 2 * math.comb(n, j) / 2**n) <= 0.05:
        j += 1
    ends = (ordered[j - 1], ordered[n - j]) if j else (None, None)
    return Interval(statistics.median(ordered), *ends)


def wait(device: str) -> None:
    """Until the device has done all that it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def in_turn(
    sides: Mapping[str, Callable[[], object]],
    rounds: int,
    each: int,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Seconds of a call of each side, once a round; the order turns around from round to round.

    So what slows the machine for longer than a round slows all sides alike.

    Args:
        each: Calls that are timed together; the device is waited for before and after them, not between.
    """
    found = []
    for n in range(rounds):
        row = {}
        for name in list(sides)[:: 1 if n % 2 else -1]:
            wait(device)
            begun = clock()
            for _ in range(each):
                sides[name]()
            wait(device)
            row[name] = (clock() - begun) / each
        found.append({name: row[name] for name in sides})
    return found


def ratio(times: Times, over: str, under: str) -> Interval:
    """How many times as long one side takes as another, round by round."""
    return interval([row[over] / row[under] for row in times])
