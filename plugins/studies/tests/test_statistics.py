"""Statistics of studies, against closed forms and scipy's own definitions."""

import math

import pytest
from scipy import stats

from genkit_studies import statistics as ours

VALUES = [0.71, 0.64, 0.83, 0.69]


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


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf]])
def test_what_is_no_number_is_no_estimate(values):
    with pytest.raises(ValueError, match="finite"):
        ours.estimate(values)


def test_the_paired_test_is_scipys():
    a, b = VALUES, [0.6, 0.66, 0.7, 0.61]
    assert ours.paired_p([x - y for x, y in zip(a, b, strict=True)]) == pytest.approx(
        stats.ttest_rel(a, b).pvalue, rel=1e-9
    )
    assert (ours.paired_p([0.25] * 3), ours.paired_p([0.0] * 3)) == (0.0, 1.0)


def test_holm_is_the_textbook_procedure():
    assert ours.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert ours.holm([0.9, 0.6]) == [1.0, 1.0]
    assert ours.holm_levels([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.05 / 3, 0.025, 0.025, 0.0125])


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.05, 0.3])
def test_an_adjusted_interval_excludes_zero_exactly_where_holm_rejects(shift):
    baseline = dict(enumerate(VALUES))
    wobble = [0.01, -0.012, 0.007, 0.002]
    arms = {
        f"{i}": {s: v + i * shift + w * (i + 1) for (s, v), w in zip(baseline.items(), wobble, strict=True)}
        for i in range(4)
    }
    found = ours.differences(baseline, arms)
    for one in found.values():
        assert (one.estimate.low > 0 or one.estimate.high < 0) == one.clear
    plain = ours.differences(baseline, {"3": arms["3"]})["3"].estimate
    assert plain.high - plain.low <= found["3"].estimate.high - found["3"].estimate.low + 1e-12


def test_differences_pair_by_seed():
    found = ours.differences({0: 1.0, 1: 10.0, 2: 100.0}, {"a": {1: 11.0, 0: 2.0, 7: 0.0}, "b": {9: 1.0}})
    assert list(found) == ["a"] and found["a"].clear is None
    assert (found["a"].estimate.mean, found["a"].estimate.n, found["a"].estimate.kind) == (1.0, 2, "range")


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
