"""What a study can find, against scipy's noncentral t and against simulation, and error spent over looks."""

import math

import numpy as np
import pytest
from scipy import stats

from genkit_studies import dunnett, power


@pytest.mark.parametrize(("df", "shift", "t"), [(4, 2.4, 2.776), (12, 3.8, 2.9), (54, 0.5, 2.6), (3.14, 6.0, 5.0)])
def test_power_is_an_integral_over_the_noncentral_t(df, shift, t):
    there = stats.nct(df, shift)
    assert dunnett.power(t, shift, df) == pytest.approx(there.sf(t) + there.cdf(-t), abs=1e-8)


def test_many_seeds_have_the_textbook_power():
    """Two samples of 17 find 1 s.d. with 80% power at 5%: Cohen (1988), table 2.4.1."""
    assert power.power(1.0, 1, 17) == pytest.approx(0.80, abs=0.01)
    assert power.power(0.0, 1, 17) == pytest.approx(0.05, abs=1e-5)


@pytest.mark.parametrize(("arms", "seeds"), [(1, 4), (2, 4), (5, 4), (8, 4), (5, 6), (3, 10)])
def test_the_smallest_effect_is_found_in_eight_of_ten_drawn_studies(verdicts, arms, seeds):
    effect = power.smallest(arms, seeds)
    assert power.power(effect, arms, seeds) == pytest.approx(0.8, abs=1e-6)
    x = np.random.default_rng(0).standard_normal((20_000, arms + 1, seeds))
    difference, half, _ = verdicts.half_widths(x, 0.05)
    assert verdicts.share(np.abs(difference[:, -1] + effect) > half[:, -1]) == pytest.approx(0.8, abs=0.025)


def test_seeds_make_smaller_effects_found():
    found = [power.smallest(5, seeds) for seeds in (2, 3, 4, 5, 6, 8, 10)]
    assert found == sorted(found, reverse=True) and found[0] == math.inf
    assert found[1:] == pytest.approx([3.94, 2.77, 2.32, 2.06, 1.74, 1.54], abs=0.01)


def test_a_study_that_is_looked_at_once_has_five_percent():
    for n in (3, 5, 10):
        assert power.level([n]) == power.level([n], n) == pytest.approx(0.05)


@pytest.mark.parametrize("planned", [0, 5, 10])
def test_looks_never_spend_more_than_six_percent(planned):
    looks = list(range(3, 60))
    spent = [power.level(looks[: i + 1], planned) for i in range(len(looks))]
    assert min(spent) > 0 and sum(spent) < 0.05 + 0.01
    at = looks.index(planned or 3)
    assert sum(spent[: at + 1]) == pytest.approx(0.05)
    assert power.level([3, 10]) == pytest.approx(0.01 * (1 - 3 / 10))
    assert power.level([3, 5], 10) == pytest.approx(0.05 * (0.5**3 - 0.3**3))


def test_a_look_without_new_seeds_is_none():
    with pytest.raises(ValueError, match="more than the one before"):
        power.level([3, 3])


def test_an_outlook_speaks_of_the_figure_and_of_the_next_look():
    fresh, looked = (power.outlook(5, 3, 0.35, True, looks) for looks in ((), (3,)))
    assert fresh.smallest == looked.smallest == pytest.approx(math.exp(0.35 * power.smallest(5, 3)))
    assert fresh.one_more == pytest.approx(math.exp(0.35 * power.smallest(5, 4)))
    assert looked.one_more == pytest.approx(math.exp(0.35 * power.smallest(5, 4, 0.01 / 4)))
    assert power.outlook(5, 3, 0.35, False).smallest == pytest.approx(0.35 * power.smallest(5, 3))
    early = power.outlook(5, 3, 0.35, True, planned=6)
    assert early.smallest == pytest.approx(math.exp(0.35 * power.smallest(5, 3, 0.05 / 8)))
    two = power.outlook(5, 2, 0.35, True)
    assert (two.smallest, two.one_more) == (None, pytest.approx(fresh.smallest))
