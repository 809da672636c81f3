"""Solvers, samplers and the path's step against closed forms, and against numbers from the published code.

The fixed numbers were made once by running `edm_sampler` of NVlabs/edm, and `consistency_losses` and `sample_euler`
of openai/consistency_models, in float64, with the denoisers below.
"""

import itertools
import math

import attrs
import pytest
import torch

import genkit
from genkit import levels
from genkit.errors import RecipeError
from genkit_diffusion.guidance import guided
from genkit_diffusion.solvers import euler_step, heun_step

SPEC = genkit.Spec(channels=1, height=2, width=1)
CONTEXT = genkit.Context(spec=SPEC, total_steps=100)
Z = torch.tensor([0.5, -1.2, 0.1, 2.0], dtype=torch.float64).reshape(2, 2, 1, 1)
MORE = torch.tensor([0.3, -0.7, 1.1, 0.2], dtype=torch.float64).reshape(2, 2, 1, 1)
SCALES = (1, -1, 0.5, 2, -0.5, 1.5, 0.25, -2)
MEAN, STD = 0.3, 0.5


def tanh(x, sigma, cond=None):
    return torch.tanh(x / (1 + levels.expand(sigma, x)))


def gaussian(x, sigma, cond=None):
    """The exact denoiser of data N(MEAN, STD^2): (STD^2 x + sigma^2 MEAN) / (STD^2 + sigma^2)."""
    s = levels.expand(sigma, x).square()
    return (STD**2 * x + s * MEAN) / (STD**2 + s)


def exact(x, t, r):
    """The end of the ODE's path from (x, t) to r for that denoiser: x - MEAN scales with the standard deviation."""
    return MEAN + (x - MEAN) * (levels.expand((STD**2 + r**2) / (STD**2 + t**2), x)).sqrt()


def sampler(name, **settings):
    return genkit.build(genkit.component("sampler", name, **settings), CONTEXT)


def draw(j):
    return Z if j == 0 else MORE * SCALES[j - 1]


def same(x, numbers, rtol=1e-9):
    assert torch.allclose(x.flatten(), torch.tensor(numbers, dtype=torch.float64), rtol=rtol, atol=0), x.flatten()


@pytest.mark.parametrize(
    ("steps", "published"),
    [
        (5, [-0.09242674976706065, -0.04020923332091109, 0.08402810233685608, 0.021567741197708327]),
        (18, [0.326214692326518, -0.42377533131986606, 0.09621108344931835, 0.45792647442870793]),
    ],
)
def test_heun_is_the_published_sampler(steps, published):
    same(sampler("heun")(tanh, draw, {}, steps), published)


def test_churn_is_that_of_the_published_sampler():
    published = [0.09982397179808714, -0.11164303801460608, 0.12498199710543528, 0.12686510462115727]
    same(sampler("heun", S_churn=2.0, S_min=0.05, S_max=50.0, S_noise=1.003)(tanh, draw, {}, 6), published)


def test_euler_is_the_published_sampler():
    published = [0.40298835884521483, -0.6015198636879764, 0.09779397486943144, 0.6643523891825522]
    same(sampler("euler")(tanh, draw, {}, 5), published, rtol=1e-5)  # its grid is float32


def levels_of(*pairs):
    return (torch.tensor(v, dtype=torch.float64) for v in pairs)


def test_euler_goes_along_the_slope_of_gaussian_data():
    x, (t, r) = 3 * Z, levels_of([2.0, 5.0], [1.0, 4.0])
    slope = levels.expand(t / (STD**2 + t**2), x) * (x - MEAN)
    assert torch.allclose(euler_step(gaussian, x, t, r), x - slope, rtol=1e-12)


def error(step, n):
    """Of n steps of one size from 3 to 1."""
    chain, x = torch.linspace(3, 1, n + 1, dtype=torch.float64), 3 * Z
    for t, r in itertools.pairwise(chain):
        x = step(gaussian, x, t.expand(2), r.expand(2))
    return (x - exact(3 * Z, *levels_of([3.0, 3.0], [1.0, 1.0]))).abs().max().item()


@pytest.mark.parametrize(("step", "order"), [(euler_step, 1), (heun_step, 2)])
def test_the_order_of_convergence(step, order):
    assert math.log2(error(step, 100) / error(step, 200)) == pytest.approx(order, abs=0.05)


def test_where_heuns_step_goes_to_0_it_is_eulers_and_the_model_is_asked_at_no_level_0():
    asked, t, r = [], torch.tensor([2.0, 3.0], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)

    def model(x, sigma, cond=None):
        asked.append(sigma)
        return gaussian(x, sigma)

    found = heun_step(model, Z, t, r)
    assert torch.equal(found[:1], euler_step(gaussian, Z, t, r)[:1])
    assert torch.equal(found[1:], heun_step(gaussian, Z[1:], t[1:], r[1:])) and torch.stack(asked).min() > 0


def test_a_sample_of_gaussian_data_is_the_end_of_its_path():
    x = sampler("heun")(gaussian, draw, {}, 400)
    assert torch.allclose(x, exact(80 * Z, *levels_of([80.0, 80.0], [0.0, 0.0])), atol=2e-4)


def test_churn_preserves_the_variance():
    settings = {"S_churn": 40.0, "S_min": 0.05, "S_max": 50.0}
    still, churned = (sampler("heun", **s)(gaussian, lambda j: _normal(j, 20_000), {}, 64) for s in ({}, settings))
    assert not torch.allclose(still, churned, atol=0.1)  # another sample ...
    for x in (still, churned):  # ... of one law: standard errors are 0.0035 and 0.0025
        assert x.mean().item() == pytest.approx(MEAN, abs=0.015) and x.std().item() == pytest.approx(STD, abs=0.01)


def test_noise_that_is_too_small_for_its_level_is_noticed_by_that_law():
    x = sampler("heun", S_churn=40.0, S_noise=0.8)(gaussian, lambda j: _normal(j, 20_000), {}, 64)
    assert abs(x.std().item() - STD) > 0.02


def _normal(j, count):
    return torch.randn(count, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(j))


def test_churn_raises_the_level_within_its_range_and_by_at_most_a_root_of_two():
    made = sampler("heun", S_churn=1.0, S_min=0.1, S_max=10.0)
    assert made.raised(5.0, 10) == pytest.approx(5.5)
    assert made.raised(5.0, 1) == pytest.approx(5 * math.sqrt(2))
    assert [made.raised(t, 10) > t for t in (0.05, 0.1, 10.0, 11.0)] == [False, True, True, False]


@pytest.mark.parametrize("name", ["heun", "euler"])
def test_one_step_is_the_denoiser_at_the_greatest_level(name):
    assert torch.allclose(sampler(name)(tanh, draw, {}, 1), tanh(80 * Z, torch.full((2,), 80.0)), rtol=1e-12)


def test_levels_may_be_listed():
    grid = CONTEXT.levels.sigmas(5).flip(0).tolist()[1:]
    assert torch.equal(sampler("heun")(tanh, draw, {}, grid), sampler("heun")(tanh, draw, {}, 5))
    assert sampler("heun").nfe(grid) == sampler("heun").nfe(5) == 9 and sampler("euler").nfe(grid) == 5


@pytest.mark.parametrize("name", ["heun", "euler"])
@pytest.mark.parametrize("steps", [0, -1, [90.0], [1.0, 2.0], [1.0, 1.0], [1.0, 0.001], [float("nan")]])
def test_steps_that_make_no_sample_are_one_line(name, steps):
    with pytest.raises(RecipeError, match=r"make no sample|do not fall from 80.0 to no less than 0.002") as told:
        sampler(name)(tanh, draw, {}, steps)
    assert "\n" not in str(told.value)


def test_a_model_of_float32_is_called_in_float32_and_the_state_is_float64():
    dtypes = set()

    def model(x, sigma, cond):
        dtypes.update((x.dtype, sigma.dtype))
        return tanh(x, sigma)

    x = sampler("heun")(model, lambda j: draw(j).float(), {}, 18)
    assert dtypes == {torch.float32} and x.dtype == torch.float32
    assert torch.allclose(x, sampler("heun")(tanh, draw, {}, 18).float(), rtol=1e-4, atol=1e-6)


def test_guidance_goes_from_no_class_through_the_class():
    def model(x, sigma, cond):
        return cond["label"].reshape(-1, 1, 1, 1) * torch.ones_like(x)

    cond, sigma = {"label": torch.tensor([1, 2])}, torch.ones(2)
    for scale, first, second in ((0.0, 4, 4), (1.0, 1, 2), (2.0, -2, 0)):
        answer = guided(model, scale, 4)(Z, sigma, cond)
        assert answer[0].unique().tolist() == [first] and answer[1].unique().tolist() == [second]
    assert cond["label"].tolist() == [1, 2]


def test_levels_are_those_of_the_recipe():
    context = attrs.evolve(CONTEXT, levels=levels.Levels(sigma_min=0.01, sigma_max=10.0))
    made = genkit.build(genkit.component("sampler", "heun"), context)
    assert made.chain(3)[0] == 10.0 and made.chain(3)[-2:] == [0.01, 0.0]
