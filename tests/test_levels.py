"""The grid and its probabilities, against numbers of the papers."""

import math

import pytest
import torch

import genkit
from genkit.errors import RecipeError
from genkit.levels import Levels, add_noise, grid

SPEC = genkit.Spec(channels=3, height=32, width=32)
CONTEXT = genkit.Context(spec=SPEC)


def law(name, **settings):
    return genkit.build(genkit.component("noise", name, **settings), CONTEXT)


def test_the_grid_of_eleven_levels_is_the_published_one():
    expected = [0.002, 0.01672, 0.08509, 0.31828, 0.96542, 2.51522, 5.83895, 12.3816, 24.4083, 45.3137, 80.0]
    assert torch.allclose(Levels().sigmas(11), torch.tensor(expected, dtype=torch.float64), rtol=1e-3)


def test_the_two_step_levels_of_ict_are_nodes_of_the_finest_grid():
    sigmas = Levels().sigmas(1281)
    assert sigmas[492].item() == pytest.approx(0.82087, abs=5e-6)
    assert sigmas[571].item() == pytest.approx(1.52577, abs=5e-6)
    assert (sigmas[0].item(), sigmas[-1].item()) == (0.002, 80.0)


def test_lognormal_probabilities_are_the_papers():
    chances = grid(Levels(), 11, law("lognormal")).cumulative[:10].diff(prepend=torch.zeros(1))
    assert chances[:5].tolist() == pytest.approx([0.0626, 0.1817, 0.2455, 0.2135, 0.1424], abs=5e-5)
    assert chances.sum().item() == 1


@pytest.mark.parametrize(("n", "expected"), [(11, 8.42), (21, 17.45), (1281, 1129)])
def test_the_mean_weight_under_the_lognormal_is_the_derived_one(n, expected):
    table = grid(Levels(), n, law("lognormal"))
    chances = table.cumulative[: n - 1].diff(prepend=torch.zeros(1))
    assert (chances / table.gaps.double()).sum().item() == pytest.approx(expected, rel=1e-3)


def test_uniform_noise_gives_every_pair_the_same_chance():
    chances = grid(Levels(), 151, law("uniform")).cumulative[:150].diff(prepend=torch.zeros(1))
    assert torch.allclose(chances, torch.full_like(chances, 1 / 150), atol=1e-12)


def test_gaps_keep_the_digits_that_float32_levels_lose():
    table, exact = grid(Levels(), 1281, law("lognormal")), Levels().sigmas(1281).diff()
    assert ((table.gaps.double() - exact) / exact).abs().max() < 1e-7
    assert ((table.sigmas.diff().double() - exact) / exact).abs().max() > 1e-5


def test_no_draw_leaves_the_grid_although_the_table_is_padded():
    table = grid(Levels(), 11, law("lognormal"))
    u = torch.tensor([0.0, 0.5, math.nextafter(1.0, 0.0)], dtype=torch.float64)
    assert len(table.cumulative) == 16
    assert table.draw(u).tolist()[0] == 0 and table.draw(u).max() == 9


def test_draws_follow_the_probabilities():
    table = grid(Levels(), 11, law("lognormal"))
    i = table.draw(torch.rand(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    seen = torch.bincount(i, minlength=10) / len(i)
    assert torch.allclose(seen.double(), table.cumulative[:10].diff(prepend=torch.zeros(1)), atol=5e-3)


def test_noise_is_added_per_sample():
    x = add_noise(torch.zeros(2, 1, 2, 2), torch.tensor([1.0, 3.0]), torch.ones(2, 1, 2, 2))
    assert x.flatten(1).tolist() == [[1.0] * 4, [3.0] * 4]


def test_ranges_and_grids_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="sigma_max must be above"):
        Levels(sigma_min=1.0, sigma_max=0.5)
    with pytest.raises(RecipeError, match="at least 2"):
        Levels().sigmas(1)
