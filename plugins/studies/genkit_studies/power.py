"""What a study can find: the power of its comparisons, the smallest effect it will find, and error spent over looks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import exp, pi, sqrt

import attrs
from scipy import special
from scipy.optimize import brentq

from genkit_studies import dunnett
from genkit_studies.dunnett import student
from genkit_studies.statistics import ALIKE, ALPHA, ENOUGH

POWER = 0.8
LATER = 0.01  # all that looks beyond the planned seeds may add to ALPHA
LARGEST = 1000.0  # standard deviations


@attrs.frozen(kw_only=True)
class Outlook:
    """What a study will find with 80% power.

    Attributes:
        seeds: Of each arm.
        smallest: The smallest effect: how many times better or worse, or a difference; None where nothing is found.
        one_more: The same with one seed more, as the study's next look.
    """

    seeds: int
    smallest: float | None
    one_more: float | None


def level(looks: Sequence[int], planned: int = 0) -> float:
    """The error of the last of some looks at a study that gets more seeds in between.

    By n of N planned seeds, ALPHA (n / N)³ may be spent; by n beyond N, ALPHA + LATER (1 - N / n). A look is tested
    at what was not spent before it. The errors of all looks so add up to at most ALPHA + LATER, whatever is found,
    however many there are, and whenever. A study that is looked at once, with the seeds it planned, has ALPHA.

    Source: Lan and DeMets (1983), Discrete sequential boundaries for clinical trials; the cube is one of the family
    of Kim and DeMets (1987). Taking each part of the error as that of its look is Bonferroni's bound: theirs are
    somewhat larger, but rest on normal sums, which three seeds do not give.

    Args:
        looks: How many seeds there were at each, ascending.
        planned: The seeds that were meant when the study began; those of the first look if not given.
    """
    planned = planned or looks[0]
    spent = [0.0, *(ALPHA * (n / planned) ** 3 if n < planned else ALPHA + LATER * (1 - planned / n) for n in looks)]
    if any(a >= b for a, b in pairwise(spent)):
        raise ValueError(f"looks at {list(looks)} seeds: each has more than the one before")
    return spent[-1] - spent[-2]


def power(effect: float, arms: int, seeds: int, level: float = ALPHA) -> float:
    """The probability that `statistics.compare` finds an arm's effect, in standard deviations of one seed.

    (1 - f) P(|T| > c) + f P(|T'| > c'), where f is the share of studies that are not pooled though all are alike,
    G P(F > ALIKE²) with n - 1 and (G - 1) (n - 1) degrees of freedom for G = arms + 1. T is noncentral t by
    effect sqrt(n / 2), with G (n - 1) degrees of freedom; c as in `dunnett.critical`. So is T' with pi/2 (n - 1),
    the mean of Welch's for three seeds; c' is Bonferroni's. Simulated power is within 0.02 of it from four seeds
    on, within 0.06 with three (`benchmarks/verdicts.py`).

    Args:
        arms: Those that are compared with the baseline.
    """
    df, own, shift = (arms + 1) * (seeds - 1), pi / 2 * (seeds - 1), effect * sqrt(seeds / 2)
    apart = min(1.0, (arms + 1) * float(special.fdtrc(seeds - 1, arms * (seeds - 1), ALIKE**2)))
    pooled = dunnett.power(dunnett.critical(dunnett.loads(seeds, [seeds] * arms), df, level), shift, df)
    return (1 - apart) * pooled + apart * dunnett.power(student(own, level / arms), shift, own)


def smallest(arms: int, seeds: int, level: float = ALPHA, wanted: float = POWER) -> float:
    """The effect that has the wanted power, in standard deviations of one seed; infinite for too few seeds."""
    if seeds < ENOUGH:
        return float("inf")
    return float(brentq(lambda effect: power(effect, arms, seeds, level) - wanted, 0, LARGEST))


def outlook(arms: int, seeds: int, sd: float, ratio: bool, looks: Sequence[int] = (), planned: int = 0) -> Outlook:
    """What a study finds as it is, and would find with one seed more.

    Args:
        sd: That of one seed, pooled over arms; on the logarithm for ratios. As of `Family` or `statistics.spread`.
        looks: Those that were before, as for `level`; and `planned`, without which either number of seeds is.
    """

    def found(n: int) -> float | None:
        if n < ENOUGH:
            return None
        before = [look for look in looks if look < n]
        effect = sd * smallest(arms, n, level([*before, n], planned))
        return exp(min(effect, 700)) if ratio else effect

    return Outlook(seeds=seeds, smallest=found(seeds), one_more=found(seeds + 1))
