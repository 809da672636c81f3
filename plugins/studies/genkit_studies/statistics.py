"""What arms are worth against their baseline: ratios or differences over seeds, with simultaneous intervals.

Pure functions of numbers. The seeds are the sample: an interval speaks of training again with other seeds. Equal seeds
of two arms hardly correlate (0.05 to 0.11, measured), so arms are not paired by seed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

import attrs
from scipy import special

from genkit_studies import dunnett

ALPHA = 0.05
ENOUGH = 3  # seeds of an arm that is given a verdict
Halves = dict[str, tuple[float, float]]  # by arm: half of its interval, and p
ALIKE = 2.0  # an arm whose seeds scatter more than this times the others' is not pooled with them


@attrs.frozen(kw_only=True)
class Estimate:
    """A mean over `n` seeds, and how far it can be trusted; the geometric mean of a positive figure.

    Attributes:
        kind: "t" for a t-interval (three seeds or more), "range" for the two values, "none" for one seed.
        low: The lower end; None if there is none. So for `high`.
    """

    mean: float
    n: int
    kind: str
    low: float | None = None
    high: float | None = None


@attrs.frozen(kw_only=True)
class Effect:
    """An arm against the baseline: a ratio of geometric means, or a difference of means.

    Attributes:
        ratio: Whether `value`, `low` and `high` are ratios, which 1 leaves unchanged; else differences, which 0 does.
        kind: "interval" for a simultaneous one, "range" of all pairs of seeds where an arm has two, "none" for one.
        p: Adjusted for all arms; None without an interval.
    """

    value: float
    ratio: bool
    kind: str
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def clear(self) -> bool | None:
        """Whether the interval leaves no change out; None where there is no interval, and so nothing to say."""
        if self.kind != "interval" or self.low is None or self.high is None:
            return None
        return not self.low <= float(self.ratio) <= self.high


@attrs.frozen(kw_only=True)
class Family:
    """All arms of a study against its baseline in one figure; their intervals hold together at 1 - level.

    Attributes:
        procedure: "dunnett", "welch", or "" where no arm has enough seeds.
        sd: Of one seed, pooled over the arms that were tested; on the logarithm for ratios.
        noisy: The arm that forbids pooling, "" for the baseline; None if there is none.
        excess: The largest standard deviation of an arm over that of all others.
    """

    ratio: bool
    procedure: str
    level: float
    effects: Mapping[str, Effect]
    sd: float | None = None
    noisy: str | None = None
    excess: float = 1.0


@attrs.frozen(kw_only=True)
class Noise:
    """Standard deviations of one figure: that of training, and that of evaluation; None where it is not known."""

    training: float | None
    evaluation: float | None


def positive(samples: Iterable[Sequence[float]]) -> bool:
    """Whether a figure is compared as a ratio: all of its values are above zero."""
    return all(value > 0 for values in samples for value in values)


def estimate(values: Sequence[float], ratio: bool = False, alpha: float = ALPHA) -> Estimate:
    """Mean and interval: mean ± t(1 - alpha/2, n - 1) s / sqrt(n) for n >= 3, the range for two, neither for one.

    Args:
        ratio: All of that on the logarithm, and back.

    Raises:
        ValueError: There are no values, or one is not finite, or not positive where it must be.
    """
    if not values or not all(map(math.isfinite, values)) or (ratio and not positive([values])):
        raise ValueError(f"an estimate needs finite values, positive for ratios, not {list(values)}")
    there, n = scaled(values, ratio), len(values)
    mean = statistics.fmean(there)
    if n == 1:
        return Estimate(mean=values[0], n=1, kind="none")
    if n < ENOUGH:
        return Estimate(mean=_back(mean, ratio), n=n, kind="range", low=min(values), high=max(values))
    half = dunnett.student(n - 1, alpha) * statistics.stdev(there) / math.sqrt(n)
    low, high = _back(mean - half, ratio), _back(mean + half, ratio)
    return Estimate(mean=_back(mean, ratio), n=n, kind="t", low=low, high=high)


def compare(baseline: Sequence[float], arms: Mapping[str, Sequence[float]], level: float = ALPHA) -> Family:
    """Each arm against the baseline, by Dunnett's test; by Welch's where one scatters much more than the others.

    Arms with fewer than three seeds are told without a verdict, and take no part in the others'.

    Args:
        arms: Values by label. One without values has no effect.
        level: The error of the whole family.
    """
    ratio = positive([baseline, *arms.values()])
    base = scaled(baseline, ratio)
    there = {label: scaled(values, ratio) for label, values in arms.items() if values and baseline}
    tested = {label: v for label, v in there.items() if min(len(v), len(base)) >= ENOUGH}
    effects = {label: _untested(base, values, ratio) for label, values in there.items()}
    if not tested:
        return Family(ratio=ratio, procedure="", level=level, effects=effects)
    at, excess = unlike([base, *tested.values()])
    pooled = excess <= ALIKE
    for label, (half, p) in (_dunnett if pooled else _welch)(base, tested, level).items():
        mean = statistics.fmean(there[label]) - statistics.fmean(base)
        low, value, high = (_back(d, ratio) for d in (mean - half, mean, mean + half))
        effects[label] = Effect(value=value, ratio=ratio, kind="interval", low=low, high=high, p=p)
    return Family(
        ratio=ratio, procedure="dunnett" if pooled else "welch", level=level, effects=effects,
        sd=spread([base, *tested.values()]), noisy=None if pooled else ("", *tested)[at], excess=excess,
    )  # fmt: skip


def spread(samples: Iterable[Sequence[float]]) -> float:
    """The standard deviation of one seed, pooled: s² = sum (n - 1) s_i² / sum (n - 1); 0 where no arm has two."""
    several = [values for values in samples if len(values) > 1]
    df = sum(len(values) - 1 for values in several)
    return math.sqrt(sum((len(v) - 1) * statistics.variance(v) for v in several) / df) if df else 0.0


def unlike(samples: Sequence[Sequence[float]]) -> tuple[int, float]:
    """The arm that scatters most against all others together, and its standard deviation over theirs.

    As Cochran's C (1941), the largest variance over the sum of all, but with one limit, `ALIKE`, for any number of
    seeds: with few seeds it often falls back, with many hardly ever without need. One of five arms five times
    noisier gives false alarms in 0.13 to 0.16 of studies if pooled, in 0.04 to 0.07 so. Where all are alike, a
    threefold effect is found less often, by 0.15 with three seeds, 0.06 with four, 0.02 with five, 0 with eight
    (`benchmarks/verdicts.py`). Pooling all but the noisy arm would find more, but errs in 0.2 where two are noisy.
    """
    found = []
    for i, values in enumerate(samples):
        own, others = statistics.stdev(values), spread([*samples[:i], *samples[i + 1 :]])
        found.append(own / others if others else math.inf if own else 1.0)
    return found.index(max(found)), max(found)


def _dunnett(base: Sequence[float], arms: Mapping[str, Sequence[float]], level: float) -> Halves:
    """Half of each interval, c s sqrt(1/n + 1/n0), and p = P(max |T_i| > |t|): Dunnett's test in a single step."""
    samples, loads = [base, *arms.values()], dunnett.loads(len(base), [len(values) for values in arms.values()])
    s, df = spread(samples), sum(map(len, samples)) - len(samples)
    c, found = dunnett.critical(loads, df, level), {}
    for label, values in arms.items():
        error = s * math.sqrt(1 / len(values) + 1 / len(base))
        t = _over(statistics.fmean(values) - statistics.fmean(base), error)
        found[label] = (c * error, 1 - dunnett.within(t, loads, df) if t < math.inf else 0.0)
    return found


def _welch(base: Sequence[float], arms: Mapping[str, Sequence[float]], level: float) -> Halves:
    """Half of each interval, and p; each arm has its own variance and Bonferroni's share of the level.

    error² = s²/n + s0²/n0 with error⁴ / (s⁴/n²/(n - 1) + s0⁴/n0²/(n0 - 1)) degrees of freedom. Not Holm's steps:
    their intervals do not hold together (0.89 for five arms that all differ, instead of 0.95).

    Source: Welch (1938), The significance of the difference between two means when the variances are unequal.
    """
    found, m = {}, len(arms)
    for label, values in arms.items():
        parts = [(statistics.variance(v) / len(v), len(v) - 1) for v in (values, base)]
        squared = sum(part for part, _ in parts)
        df = squared**2 / sum(part**2 / n for part, n in parts) if squared else 1.0
        t = _over(statistics.fmean(values) - statistics.fmean(base), math.sqrt(squared))
        half = dunnett.student(df, level / m) * math.sqrt(squared)
        found[label] = (half, min(1.0, 2 * m * float(special.stdtr(df, -t))))
    return found


def _untested(base: Sequence[float], values: Sequence[float], ratio: bool) -> Effect:
    """An arm with too few seeds: for two, the range over all pairs of a seed of it and one of the baseline."""
    value = _back(statistics.fmean(values) - statistics.fmean(base), ratio)
    if min(len(values), len(base)) < 2:
        return Effect(value=value, ratio=ratio, kind="none")
    low, high = _back(min(values) - max(base), ratio), _back(max(values) - min(base), ratio)
    return Effect(value=value, ratio=ratio, kind="range", low=low, high=high)


def scaled(values: Sequence[float], ratio: bool) -> list[float]:
    """As they are compared: on the logarithm for ratios."""
    return [math.log(value) for value in values] if ratio else list(values)


def _back(value: float, ratio: bool) -> float:
    return math.exp(max(-700.0, min(value, 700.0))) if ratio else value


def _over(difference: float, error: float) -> float:
    """|t|; where nothing scatters, a difference is infinitely many errors, and none is none."""
    return abs(difference) / error if error else math.inf if difference else 0.0


def noise(figures: Sequence[Sequence[float]]) -> Noise:
    """Training told from evaluation: a row for each training seed, a column for each evaluation seed.

    Two-way random effects, as all rows share their evaluation seeds and so their latents: y = mean + row + column +
    rest. evaluation² is the mean variance within rows, of column and rest together; training² the variance of the
    rows' means less rest² / m for m columns, at least 0, since columns move all rows alike. With one evaluation
    seed evaluation is not known, and training neither: the spread of the rows holds both.

    Source: Searle, Casella and McCulloch, Variance Components, chapter 4 (ANOVA estimators).
    """
    counts = {len(row) for row in figures}
    if len(counts) != 1 or counts <= {0, 1}:
        return Noise(training=None, evaluation=None)
    within = statistics.fmean(statistics.variance(row) for row in figures)
    if len(figures) < 2:
        return Noise(training=None, evaluation=math.sqrt(within))
    means = [statistics.fmean(row) for row in figures]
    columns = [statistics.fmean(column) for column in zip(*figures, strict=True)]
    whole, m = statistics.fmean(means), len(columns)
    rests = [
        y - a - b + whole for row, a in zip(figures, means, strict=True) for y, b in zip(row, columns, strict=True)
    ]
    rest = sum(r**2 for r in rests) / ((len(means) - 1) * (m - 1))
    between = statistics.variance(means) - rest / m
    return Noise(training=math.sqrt(max(between, 0.0)), evaluation=math.sqrt(within))
