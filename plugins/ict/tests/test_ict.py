"""iCT's choices against the paper's formulas and numbers; each trap of its re-implementations is caught."""

import math

import pytest
import torch

import genkit
from genkit.errors import RecipeError
from genkit.levels import Levels

CIFAR = genkit.Context(spec=genkit.Spec(channels=3, height=32, width=32))
IMAGENET = genkit.Context(spec=genkit.Spec(channels=3, height=64, width=64))


def thing(kind, name, context=CIFAR, **settings):
    return genkit.build(genkit.component(kind, name, **settings), context)


def test_the_curriculum_doubles_eight_times():
    points = genkit.component("curriculum", "exponential")
    starts = [points(k, 400_000) for k in range(0, 400_000, 50_000)]
    assert starts == [11, 21, 41, 81, 161, 321, 641, 1281]
    assert [points(k, 400_000) for k in (49_999, 50_000, 349_999, 399_999)] == [11, 21, 641, 1281]


def test_the_curriculum_of_a_ratio_that_is_no_power_of_two():
    points = genkit.component("curriculum", "exponential", s1=150)
    stage = 81_518
    starts = [points(k, 400_000) for k in (0, stage - 1, stage, 2 * stage, 3 * stage, 4 * stage)]
    assert starts == [11, 11, 21, 41, 81, 151]


def test_a_run_shorter_than_the_stages_takes_a_stage_a_step():
    points = genkit.component("curriculum", "exponential")
    assert [points(k, 7) for k in range(7)] == [11, 21, 41, 81, 161, 321, 641]


def test_stages_are_counted_by_the_whole_part_of_the_ratio():
    points = genkit.component("curriculum", "exponential", s0=10, s1=159)  # log2(15), not log2(15.9)
    assert [points(k, 400_000) for k in (81_517, 81_518, 4 * 81_518 - 1, 4 * 81_518)] == [11, 21, 81, 160]


@pytest.mark.parametrize("total", [1, 3, 7])
def test_runs_shorter_than_the_number_of_stages_start(total):
    points = genkit.component("curriculum", "exponential")
    assert points(0, total) == 11


def test_a_curriculum_that_falls_is_refused():
    with pytest.raises(RecipeError, match="s1 must be at least s0"):
        genkit.component("curriculum", "exponential", s0=10, s1=5)


@pytest.mark.parametrize(("context", "c"), [(CIFAR, 0.0299), (IMAGENET, 0.0599)])
def test_the_constant_of_pseudo_huber_grows_with_the_root_of_the_dimensions(context, c):
    d = thing("loss", "pseudo-huber", context)
    assert d.keywords["c"] == pytest.approx(c, abs=5e-5)


def test_pseudo_huber_takes_one_norm_per_image_and_not_one_per_pixel():
    x, y = torch.randn(5, 3, 32, 32, dtype=torch.float64), torch.randn(5, 3, 32, 32, dtype=torch.float64)
    d = thing("loss", "pseudo-huber", c=0.03)(x, y)
    square = (x - y).flatten(1).square().sum(1)
    assert torch.allclose(d, (square + 0.03**2).sqrt() - 0.03, rtol=1e-12)
    elementwise = (((x - y) ** 2 + 0.03**2).sqrt() - 0.03).flatten(1).sum(1)
    assert (d / elementwise).max() < 0.1


def test_pseudo_huber_keeps_its_digits_where_the_difference_of_roots_loses_them():
    x, y = torch.zeros(1, 3072), torch.full((1, 3072), 1e-6)
    exact = math.sqrt(3072e-12 + 0.03**2) - 0.03
    assert thing("loss", "pseudo-huber", c=0.03)(x, y).item() == pytest.approx(exact, rel=1e-5)


def test_the_weight_is_the_inverse_of_the_exact_gap():
    sigma = Levels().sigmas(1281)
    weigh = thing("weighting", "inverse-step")
    exact = 1 / sigma.diff()
    assert torch.allclose(weigh(None, None, sigma.diff().float()).double(), exact, rtol=1e-6)
    assert exact.max().item() == pytest.approx(25_585, rel=1e-3)
    assert exact.min().item() == pytest.approx(2.94, rel=2e-3)


def test_the_lognormal_mass_on_the_range_is_the_derived_one():
    law = thing("noise", "lognormal")
    ends = law.cdf(torch.tensor([0.002, 80.0], dtype=torch.float64))
    assert (ends[1] - ends[0]).item() == pytest.approx(0.99166, abs=5e-6)


def test_lognormal_draws_have_the_papers_moments():
    u = torch.rand(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    log = thing("noise", "lognormal").icdf(u).log()
    assert (log.mean().item(), log.std().item()) == pytest.approx((-1.1, 2.0), abs=0.02)


def test_the_teacher_is_the_student_and_is_saved_once():
    grey = genkit.Context(spec=genkit.Spec(channels=1, height=8, width=8), total_steps=100)
    program = genkit.build(genkit.component("objective", "consistency"), grey)
    assert program.teacher is program.student
    assert {name.split(".")[0] for name in program.state_dict()} == {"student"}
