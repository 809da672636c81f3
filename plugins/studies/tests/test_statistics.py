"""Statistics of studies, against closed forms, published tables, scipy's own tests, and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from genkit_studies import dunnett
from genkit_studies import statistics as ours

VALUES = [0.71, 0.64, 0.83, 0.69]


def drawn(seed, sizes, sd=0.35, shift=0.0):
    """A baseline and arms of some sizes, log-normal; the last arm is shifted."""
    rng = np.random.default_rng(seed)
    base, *arms = (
        list(np.exp(sd * rng.standard_normal(n) + shift * (i == len(sizes) - 1))) for i, n in enumerate(sizes)
    )
    return base, {str(i): arm for i, arm in enumerate(arms)}


# ---- one arm ---------------------------------------------------------------------------------------


def test_an_estimate_says_no_more_than_its_seeds_allow():
    one, two, four = ours.estimate([0.5]), ours.estimate([0.5, 0.3]), ours.estimate(VALUES)
    assert (one.kind, one.low, one.high) == ("none", None, None)
    assert (two.kind, two.mean, two.low, two.high) == ("range", 0.4, 0.3, 0.5)
    low, high = stats.ttest_1samp(VALUES, 0).confidence_interval(0.95)
    assert four.kind == "t" and (four.low, four.high) == pytest.approx((low, high), rel=1e-12)


def test_the_t_interval_of_three_has_its_closed_form():
    """t with two degrees of freedom: quantile (2q - 1) sqrt(2 / (4 q (1 - q))), here q = 0.975."""
    quantile = 0.95 * math.sqrt(2 / (4 * 0.975 * 0.025))
    assert ours.estimate([1, 2, 3]).high == pytest.approx(2 + quantile / math.sqrt(3), rel=1e-9)


def test_positive_figures_have_geometric_means_and_positive_ends():
    one = ours.estimate([1.0, 10.0, 100.0], ratio=True)
    plain = ours.estimate([0.0, 1.0, 2.0])
    assert one.mean == pytest.approx(10)
    assert (one.low, one.high) == pytest.approx((10**plain.low, 10**plain.high)) and one.low > 0
    assert ours.estimate([4.0, 9.0], ratio=True).mean == pytest.approx(6)


@pytest.mark.parametrize(
    ("values", "ratio"), [([], False), ([0.5, math.nan], False), ([math.inf], False), ([0.0], True)]
)
def test_what_is_no_number_is_no_estimate(values, ratio):
    with pytest.raises(ValueError, match="finite"):
        ours.estimate(values, ratio)


# ---- the distribution of Dunnett's comparisons -------------------------------------------------------

# Dunnett (1964), tables II (5%) and III (1%), two-sided; columns are one to nine arms
PUBLISHED = {
    (0.05, 5): (2.57, 3.03, 3.29, 3.48, 3.62, 3.73, 3.82, 3.90, 3.97),
    (0.05, 10): (2.23, 2.57, 2.76, 2.89, 2.99, 3.07, 3.14, 3.19, 3.24),
    (0.05, 20): (2.09, 2.38, 2.54, 2.65, 2.73, 2.80, 2.86, 2.90, 2.95),
    (0.05, 60): (2.00, 2.27, 2.41, 2.51, 2.58, 2.64, 2.69, 2.73, 2.77),
    (0.01, 10): (3.17, 3.53, 3.74, 3.88, 3.99, 4.08, 4.16, 4.22, 4.28),
}


@pytest.mark.parametrize(("level", "df"), PUBLISHED)
def test_critical_values_are_those_of_the_published_tables(level, df):
    found = [dunnett.critical(dunnett.loads(7, [7] * arms), df, level) for arms in range(1, 10)]
    assert found == pytest.approx(PUBLISHED[level, df], abs=0.0051)


def test_one_arm_alone_has_students_distribution():
    for df, t in ((1, 3.0), (4, 0.7), (18, 2.101), (200, 1.2)):
        assert dunnett.within(t, (math.sqrt(0.5),), df) == pytest.approx(1 - 2 * stats.t.sf(t, df), abs=1e-10)
    assert dunnett.critical((math.sqrt(0.5),), 8, 0.01) == pytest.approx(stats.t.ppf(0.995, 8), abs=1e-7)


def test_unequal_sizes_are_those_of_the_multivariate_t():
    sizes, base = [3, 5, 9], 4
    loads = np.array(dunnett.loads(base, sizes))
    correlation = np.outer(loads, loads) + np.diag(1 - loads**2)
    assert correlation[0, 1] == pytest.approx(
        1 / math.sqrt((base / 3 + 1) * (base / 5 + 1))
    )  # Dunnett (1955), page 1103
    exact = stats.multivariate_t(shape=correlation, df=17, seed=0)
    box = exact.cdf([2.3] * 3, lower_limit=[-2.3] * 3, maxpts=200_000)
    assert dunnett.within(2.3, tuple(loads), 17) == pytest.approx(box, abs=2e-4)


# ---- arms against a baseline -------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(5, 5, 5), (3, 3, 3, 3, 3, 3), (8, 3, 5, 4)])
def test_arms_are_compared_as_scipys_dunnett_does_on_logarithms(sizes):
    base, arms = drawn(0, sizes, shift=0.6)
    found = ours.compare(base, arms)
    scipys = stats.dunnett(*map(np.log, arms.values()), control=np.log(base), rng=np.random.default_rng(0))
    ends = scipys.confidence_interval(0.95)
    effects = list(found.effects.values())
    assert found.procedure == "dunnett" and found.ratio
    assert [one.p for one in effects] == pytest.approx(scipys.pvalue, abs=2e-3)
    assert [math.log(one.low) for one in effects] == pytest.approx(ends.low, abs=5e-3)
    assert [math.log(one.high) for one in effects] == pytest.approx(ends.high, abs=5e-3)
    assert found == ours.compare(base, arms)  # to the last digit


def test_a_figure_that_can_be_negative_is_compared_as_differences():
    base, arms = [-0.1, 0.2, 0.1], {"a": [1.0, 1.2, 1.1], "b": [0.0, 0.1, 0.2]}
    found = ours.compare(base, arms)
    assert not found.ratio and found.effects["a"].value == pytest.approx(1.1 - 0.2 / 3)
    assert (found.effects["a"].clear, found.effects["b"].clear) == (True, False)
    moved = ours.compare([v + 5 for v in base], {a: [v + 5 for v in vs] for a, vs in arms.items()})
    assert moved.ratio  # all above zero now


def test_where_one_arm_is_noisier_each_has_its_own_variance():
    base, arms = [1.0, 1.1, 0.9, 1.05], {"calm": [2.0, 2.2, 1.9], "wild": [0.1, 9.0, 1.0, 30.0]}
    found = ours.compare(base, arms)
    assert (found.procedure, found.noisy) == ("welch", "wild")
    for label, values in arms.items():
        there = stats.ttest_ind(np.log(values), np.log(base), equal_var=False)
        low, high = there.confidence_interval(1 - 0.05 / 2)
        one = found.effects[label]
        assert one.p == pytest.approx(min(1, 2 * there.pvalue))
        assert (math.log(one.low), math.log(one.high)) == pytest.approx((low, high))
    calm = [*arms["calm"], 2.1]
    assert ours.compare(arms["wild"], {"base": base, "calm": calm}).noisy == ""  # the baseline itself


def test_the_limit_of_pooling_is_twice_the_others():
    even = [[-1.0, 0.0, 1.0]] * 3
    assert ours.unlike([*even, [-1.9, 0.0, 1.9]]) == (3, pytest.approx(1.9))
    base, still = [-1.0, 0.0, 1.0], {"a": [-1.0, 0.0, 1.0]}
    assert ours.compare(base, {**still, "b": [-1.99, 0.0, 1.99]}).procedure == "dunnett"
    assert ours.compare(base, {**still, "b": [-2.01, 0.0, 2.01]}).procedure == "welch"


@pytest.mark.parametrize("seed", range(40))
def test_a_verdict_is_clear_exactly_where_its_interval_leaves_no_change_out(seed):
    sizes = [3 + (seed + i) % 4 for i in range(2 + seed % 6)]
    base, arms = drawn(seed, sizes, sd=0.2 + 0.1 * (seed % 4), shift=0.15 * (seed % 9))
    level = (0.05, 0.0025)[seed % 2]
    if seed % 3 == 0:
        base, arms = [v - 0.8 for v in base], {label: [v - 0.8 for v in values] for label, values in arms.items()}
    for one in ours.compare(base, arms, level).effects.values():
        no_change = 1.0 if one.ratio else 0.0
        assert one.clear == (one.low > no_change or one.high < no_change) == (one.p < level)
        assert one.low < one.value < one.high


def test_the_seeds_above_are_worth_asking():
    """Both verdicts and both procedures are among them."""
    found = [
        ours.compare(*drawn(seed, [3 + (seed + i) % 4 for i in range(2 + seed % 6)], 0.3, 0.15 * (seed % 9)))
        for seed in range(40)
    ]
    assert {one.procedure for one in found} == {"dunnett", "welch"}
    assert {e.clear for one in found for e in one.effects.values()} == {True, False}


def test_a_ratio_does_not_ask_for_the_unit():
    base, arms = drawn(3, (4, 4, 3), shift=0.8)
    found = ours.compare(base, arms)
    scaled = ours.compare(
        [1000 * v for v in base], {label: [1000 * v for v in values] for label, values in arms.items()}
    )
    inverse = ours.compare([1 / v for v in base], {label: [1 / v for v in values] for label, values in arms.items()})
    for label, one in found.effects.items():
        other, turned = scaled.effects[label], inverse.effects[label]
        assert (other.value, other.low, other.high, other.p) == pytest.approx((one.value, one.low, one.high, one.p))
        assert (1 / turned.value, 1 / turned.high, 1 / turned.low) == pytest.approx((one.value, one.low, one.high))


def test_two_seeds_are_a_range_and_one_is_nothing():
    found = ours.compare([1.0, 2.0, 1.5], {"two": [4.0, 3.0], "one": [8.0], "none": [], "three": [1.0, 1.4, 1.9]})
    two, one = found.effects["two"], found.effects["one"]
    assert (two.kind, two.low, two.high, two.p, two.clear) == (
        "range",
        pytest.approx(1.5),
        pytest.approx(4),
        None,
        None,
    )
    assert (one.kind, one.low, one.high, one.clear) == ("none", None, None, None)
    assert "none" not in found.effects
    alone = ours.compare([1.0, 2.0, 1.5], {"three": [1.0, 1.4, 1.9]})
    assert found.effects["three"] == alone.effects["three"]  # what has no verdict takes no part in the others'
    few = ours.compare([1.0, 2.0], {"three": [1.0, 1.4, 1.9]})
    assert (few.procedure, few.effects["three"].kind) == ("", "range")
    assert ours.compare([], {"three": [1.0, 1.4, 1.9]}).effects == {}


def test_what_does_not_scatter_is_told_apart_without_noise():
    found = ours.compare([2.0] * 3, {"same": [2.0] * 3, "other": [3.0] * 3})
    same, other = found.effects["same"], found.effects["other"]
    assert (same.clear, same.p, other.clear, other.p) == (False, 1.0, True, 0.0)
    mixed = ours.compare([2.0] * 3, {"same": [2.0] * 3, "other": [3.0, 4.0, 6.0]})
    assert (mixed.procedure, mixed.noisy) == ("welch", "other") and mixed.effects["same"].p == 1


def test_the_spread_is_pooled_over_arms():
    assert ours.spread([[1.0, 3.0], [5.0, 6.0, 7.0], [9.0]]) == pytest.approx(math.sqrt((2 + 2) / 3))
    assert ours.spread([[1.0]]) == 0


# ---- by simulation -----------------------------------------------------------------------------------


def test_the_simulation_does_as_studies_do(verdicts):
    assert verdicts.agreement(np.random.default_rng(7), studies=100) < 1e-9


@pytest.mark.parametrize("arms", [4, 5])
@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_false_alarms_are_kept_and_effects_found(verdicts, arms, seeds):
    """20,000 studies each: a share of 0.05 has a standard error of 0.0015, one of 0.9 of 0.002."""
    rng = np.random.default_rng(arms * seeds)
    even, uneven = (verdicts.study(arms, seeds, noise, 20_000, rng) for noise in ("log-normal", "arm x5"))
    assert 0.045 < even["false alarms"] < 0.056 and 0.944 < even["covered"] < 0.956
    assert (
        uneven["false alarms"] < 0.08 and verdicts.study(arms, seeds, "baseline x5", 20_000, rng)["false alarms"] < 0.08
    )
    assert seeds < 5 or even["threefold"] > 0.955
    assert seeds < 8 or even["twofold"] > 0.895


def test_without_the_check_a_noisy_arm_gives_false_alarms(verdicts):
    """What the limit is for: this is the simulation's own power to see that it is gone."""
    x = np.log(verdicts.figures("arm x5", (20_000, 6, 4), np.random.default_rng(0)))
    difference, half, _ = verdicts.half_widths(x, 0.05, alike=math.inf)
    assert verdicts.share((np.abs(difference) > half).any(-1)) > 0.13


@pytest.mark.parametrize("planned", [3, 5, 10])
def test_seeds_added_one_by_one_up_to_ten_keep_false_alarms(verdicts, planned):
    found = verdicts.looking(5, list(range(3, 11)), planned, "log-normal", 20_000, np.random.default_rng(0))
    assert found["false alarms"] < 0.056 and found["unspent"] > 0.15


# ---- noise -------------------------------------------------------------------------------------------


def test_noise_of_evaluation_is_told_from_that_of_training():
    rows = [[1.0, 4.0], [6.0, 7.0]]  # within (4.5 + 0.5) / 2; means 2.5, 6.5 with variance 8; rests ±0.5, so 1 / 2
    assert attrs_of(ours.noise(rows)) == pytest.approx((math.sqrt(7.75 - 0.25), math.sqrt(2.5)))
    assert attrs_of(ours.noise([[1.0, 3.0], [3.0, 1.0]])) == pytest.approx((0, math.sqrt(2)))  # never below zero
    assert attrs_of(ours.noise([[1.0], [2.0], [4.0]])) == (None, None)
    assert attrs_of(ours.noise([[1.0, 3.0]])) == (None, pytest.approx(math.sqrt(2)))


def test_latents_that_all_trials_share_are_no_noise_of_training():
    """What an evaluation seed does to all rows alike leaves their means' spread alone."""
    training = [0.5, 0.7, 0.3]
    shared = [[t + latents for latents in (-0.2, 0.0, 0.2)] for t in training]
    assert attrs_of(ours.noise(shared)) == pytest.approx((0.2, 0.2))


def attrs_of(noise):
    return noise.training, noise.evaluation
