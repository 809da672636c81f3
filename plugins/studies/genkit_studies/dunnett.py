"""The distribution of Dunnett's comparisons of several arms with one baseline: adjusted p-values, critical values.

By integration instead of drawing, so that a study tells the same digits whenever it is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from math import lgamma, log, pi, sqrt

import numpy as np
from scipy import special
from scipy.optimize import brentq

NODES, WEIGHTS = np.polynomial.legendre.leggauss(96)
REACH = 8.5  # standard deviations; beyond it lies 2e-17 of a normal distribution
TAIL = 1e-14  # what is left of the distribution of the standard deviation on either side


def loads(baseline: int, arms: Sequence[int]) -> tuple[float, ...]:
    """Of each arm, l = 1 / sqrt(1 + n0 / n) for n0 values of the baseline; two arms correlate at l_i l_j."""
    return tuple(1 / sqrt(1 + baseline / n) for n in arms)


@cache
def within(t: float, loads: tuple[float, ...], df: int) -> float:
    """P(max |T_i| <= t) for arms that are all like the baseline.

    With S the estimated standard deviation over the true one, S² df chi-squared with df degrees of freedom, and Z
    the baseline's mean in its standard errors, arms are independent, so that the probability is the mean over
    S and Z of prod_i [Phi((l_i Z + t S) / r_i) - Phi((l_i Z - t S) / r_i)], where r_i² = 1 - l_i². Both means are
    sums over 96 Gauss-Legendre nodes: ten digits.

    Source: Dunnett (1955), A multiple comparison procedure for comparing several treatments with a control,
    equation (5); two-sided values in Dunnett (1964), New tables for multiple comparisons with a control.
    """
    s, chi = _deviations(df)
    z = REACH * NODES
    normal = REACH * WEIGHTS * np.exp(-(z**2) / 2) / sqrt(2 * pi)
    joint = np.ones((len(z), len(s)))
    for each, arms in Counter(loads).items():
        r = sqrt(1 - each**2)
        one = special.ndtr((each * z[:, None] + t * s) / r) - special.ndtr((each * z[:, None] - t * s) / r)
        joint *= one**arms
    return float(normal @ joint @ chi)


@cache
def critical(loads: tuple[float, ...], df: int, level: float) -> float:
    """The t that max |T_i| exceeds with probability `level`; it lies between Student's for one arm and Bonferroni's."""
    low, high = student(df, level), student(df, level / len(loads))
    return float(brentq(lambda t: 1 - within(t, loads, df) - level, 0.99 * low, 1.01 * high, xtol=1e-9))


def student(df: float, level: float) -> float:
    """The t that Student's |T| exceeds with probability `level`."""
    return float(special.stdtrit(df, 1 - level / 2))


def power(t: float, shift: float, df: float) -> float:
    """P(|T| > t) for T noncentral, (Z + shift) / S: the mean over S of Phi(shift - t S) + Phi(-shift - t S)."""
    s, chi = _deviations(df)
    return float((special.ndtr(shift - t * s) + special.ndtr(-shift - t * s)) @ chi)


@cache
def _deviations(df: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of S, whose density is 2 (df/2)^(df/2) / Gamma(df/2) s^(df - 1) exp(-df s² / 2)."""
    low, high = (sqrt(special.chdtri(df, p) / df) for p in (1 - TAIL, TAIL))
    s = (low + high) / 2 + (high - low) / 2 * NODES
    density = np.exp(log(2) + df / 2 * log(df / 2) - lgamma(df / 2) + (df - 1) * np.log(s) - df * s**2 / 2)
    return s, (high - low) / 2 * WEIGHTS * density
