"""What differences between arms are worth: intervals over seeds, paired differences, Holm's adjustment.

Pure functions of numbers. The seeds are the sample: an interval speaks of training again with other seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import attrs

ALPHA = 0.05


@attrs.frozen(kw_only=True)
class Estimate:
    """A mean over `n` seeds, and how far it can be trusted.

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
class Difference:
    """An arm less the baseline, over the seeds that both have.

    Attributes:
        estimate: The mean difference; a t-interval is at Holm's level for this arm.
        p: Two-sided p-value of the paired t-test; None below three seeds.
        adjusted: Holm's adjusted p-value; None below three seeds.
    """

    estimate: Estimate
    p: float | None = None
    adjusted: float | None = None

    @property
    def clear(self) -> bool | None:
        """Whether Holm's procedure tells the difference from zero; None where nothing can be said."""
        return None if self.adjusted is None else self.adjusted <= ALPHA


@attrs.frozen(kw_only=True)
class Noise:
    """Standard deviations of one figure: that of training, and that of evaluation; None where it is not known."""

    training: float | None
    evaluation: float | None


def estimate(values: Sequence[float], alpha: float = ALPHA) -> Estimate:
    """Mean and interval: mean ± t(1 - alpha/2, n - 1) s / sqrt(n) for n >= 3, the range for two, neither for one.

    Raises:
        ValueError: There are no values, or one is not finite.
    """
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"an estimate needs finite values, not {list(values)}")
    mean, n = statistics.fmean(values), len(values)
    if n == 1:
        return Estimate(mean=mean, n=1, kind="none")
    if n == 2:
        return Estimate(mean=mean, n=2, kind="range", low=min(values), high=max(values))
    from scipy import stats

    half = float(stats.t.ppf(1 - alpha / 2, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    return Estimate(mean=mean, n=n, kind="t", low=mean - half, high=mean + half)


def paired_p(values: Sequence[float]) -> float:
    """Two-sided p-value of mean zero, t = mean / (s / sqrt(n)) with n - 1 degrees of freedom; n >= 2."""
    from scipy import stats

    mean, spread = statistics.fmean(values), statistics.stdev(values)
    if spread == 0:
        return 0.0 if mean else 1.0
    return float(2 * stats.t.sf(abs(mean) / (spread / math.sqrt(len(values))), len(values) - 1))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: the running maximum of (m - i) p_(i), i = 0 for the smallest, at most 1.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    adjusted, highest = [0.0] * len(ps), 0.0
    for i, at in enumerate(sorted(range(len(ps)), key=lambda j: ps[j])):
        highest = max(highest, min(1.0, (len(ps) - i) * ps[at]))
        adjusted[at] = highest
    return adjusted


def holm_levels(ps: Sequence[float]) -> list[float]:
    """The level at which Holm's procedure looks at each: alpha / (m - i), and from the first not rejected on the same.

    A (1 - level) interval of each then excludes zero exactly where Holm's procedure rejects. Where something
    is rejected these intervals are narrower than joint ones (Bonferroni's, alpha / m) would be.
    """
    levels, level, stopped = [0.0] * len(ps), ALPHA, False
    for i, at in enumerate(sorted(range(len(ps)), key=lambda j: ps[j])):
        level = level if stopped else ALPHA / (len(ps) - i)
        stopped = stopped or ps[at] > level
        levels[at] = level
    return levels


def differences(baseline: Mapping[int, float], arms: Mapping[str, Mapping[int, float]]) -> dict[str, Difference]:
    """Each arm less the baseline, paired by seed; arms that share no seed with it are left out.

    Args:
        baseline: Seed to figure. So for each arm; trials without a figure are simply not there.
    """
    paired = {arm: [of[s] - baseline[s] for s in sorted(of) if s in baseline] for arm, of in arms.items()}
    tested = [arm for arm, values in paired.items() if len(values) >= 3]
    ps = [paired_p(paired[arm]) for arm in tested]
    known = dict(zip(tested, zip(ps, holm(ps), holm_levels(ps), strict=True), strict=True))
    found = {}
    for arm, values in paired.items():
        if values:
            p, adjusted, level = known.get(arm, (None, None, ALPHA))
            found[arm] = Difference(estimate=estimate(values, level), p=p, adjusted=adjusted)
    return found


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
