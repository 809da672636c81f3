"""Claims about the toys: what is drawn has the law that the closed forms speak of."""

from __future__ import annotations

import pytest
import torch

from genkit.data import batches
from genkit.keys import Key
from genkit.kinds import Setup
from genkit_images.toys import Delta, Gaussian, Ring

TOYS = [Delta(), Gaussian(), Ring()]


@pytest.mark.parametrize("toy", TOYS, ids=lambda t: type(t).__name__)
def test_toys_are_a_function_of_the_seed(toy):
    first, same, other = (toy.build(Setup(seed=s)) for s in (0, 0, 1))
    assert first.identity == same.identity
    assert torch.equal(first.x, same.x)
    assert isinstance(toy, Delta) or first.identity != other.identity


@pytest.mark.parametrize("toy", TOYS[1:], ids=lambda t: type(t).__name__)
def test_held_out_samples_are_others_and_do_not_depend_on_how_many_train(toy):
    import attrs

    data = toy.build(Setup())
    fewer = attrs.evolve(toy, samples=10).build(Setup())
    assert (len(data), len(data.held_out), len(fewer)) == (20_000, 2_000, 10)
    assert torch.equal(data.held_out.x, fewer.held_out.x)
    assert not torch.equal(data.x[:2_000], data.held_out.x)


@pytest.mark.parametrize("toy", TOYS, ids=lambda t: type(t).__name__)
def test_toys_are_trained_on_as_they_are(toy):
    data = toy.build(Setup())
    x = next(batches(data, seed=0, first=0, batch_size=len(data))).x
    assert x.dtype == torch.float32
    assert torch.equal(x.flatten(1).sort(0).values, data.x.flatten(1).sort(0).values)


@pytest.mark.parametrize("toy", TOYS, ids=lambda t: type(t).__name__)
def test_decoding_maps_minus_one_to_one_onto_0_to_255(toy):
    data = toy.build(Setup())
    x0 = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).reshape(5, 1, 1, 1).expand(5, *data.spec.shape)
    images = data.decode(x0)
    assert images.dtype == torch.uint8
    assert images[:, 0, 0, 0].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("toy", [Gaussian(mean=0.3, std=0.2), Ring()], ids=lambda t: type(t).__name__)
def test_sigma_data_is_the_standard_deviation_of_the_data(toy):
    data = toy.build(Setup())
    assert data.x.std(0).mean().item() == pytest.approx(data.spec.sigma_data, rel=0.02)


def test_the_delta_is_at_xi_with_the_sigma_data_that_is_set():
    data = Delta(xi=0.25, sigma_data=0.1, samples=7).build(Setup())
    assert data.x.unique().tolist() == [0.25]
    assert data.spec.sigma_data == 0.1
    assert data.spec.shape == (1, 1, 1)


def test_gaussian_samples_have_the_mean_the_spread_and_the_shape_that_are_set():
    data = Gaussian(mean=-0.4, std=0.3, channels=3, height=2, width=4).build(Setup())
    assert data.x.shape == (20_000, 3, 2, 4)
    assert data.x.mean().item() == pytest.approx(-0.4, abs=0.01)
    assert data.x.std().item() == pytest.approx(0.3, rel=0.01)
    correlation = torch.corrcoef(data.x.flatten(1).T) - torch.eye(24)
    assert correlation.abs().max() < 0.05


def test_ring_samples_have_the_moments_that_the_ring_states():
    toy = Ring()
    x = toy.build(Setup()).x.flatten(1).double()
    assert torch.allclose(x.mean(0), toy.mean(), atol=0.015)
    assert torch.allclose(torch.cov(x.T), toy.covariance(), atol=0.005)
    distance = x.norm(dim=1)
    assert distance.mean().item() == pytest.approx(0.7, abs=0.002)
    assert distance.std().item() == pytest.approx(0.05, rel=0.03)


def test_the_gaussian_denoiser_is_the_best_linear_estimate():
    """Least squares of x0 on x finds the slope and intercept of the closed form."""
    toy = Gaussian(mean=0.3, std=0.5, samples=200_000, channels=1)
    x0 = toy.build(Setup()).x.double()
    sigma = torch.tensor([0.7], dtype=torch.float64)
    x = x0 + 0.7 * torch.randn(x0.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    both = torch.cov(torch.stack((x.flatten(), x0.flatten())))
    slope, ends = both[0, 1] / both[0, 0], toy.denoise(torch.tensor([0.0, 1.0]).double().reshape(2, 1, 1, 1), sigma)
    assert (ends[1] - ends[0]).item() == pytest.approx(slope.item(), abs=0.01)
    assert ends[0].item() == pytest.approx((x0.mean() - slope * x.mean()).item(), abs=0.01)


@pytest.mark.parametrize("toy", [Delta(xi=0.4), Gaussian(mean=0.3, std=0.5)], ids=lambda t: type(t).__name__)
def test_consistency_functions_solve_the_probability_flow(toy):
    """f is constant along dx/dsigma = (x - D(x, sigma)) / sigma, and the identity at sigma_min."""
    x = torch.randn(6, *toy.build(Setup()).spec.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigma = torch.linspace(0.01, 3, 6, dtype=torch.float64)
    least = torch.full_like(sigma, 0.002)
    assert torch.allclose(toy.consistency(x, least, 0.002), x, rtol=1e-12)

    slope = (x - toy.denoise(x, sigma)) / sigma.reshape(-1, 1, 1, 1)
    _, along = torch.func.jvp(lambda x, s: toy.consistency(x, s, 0.002), (x, sigma), (slope, torch.ones_like(sigma)))
    _, alone = torch.func.jvp(lambda x: toy.consistency(x, sigma, 0.002), (x,), (slope,))
    assert along.abs().max() < 1e-10
    assert alone.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("toy", "wrong"),
    [
        (Delta, {"sigma_data": 0}),
        (Delta, {"samples": 0}),
        (Gaussian, {"std": 0.0}),
        (Gaussian, {"channels": 0}),
        (Ring, {"radius": -1.0}),
        (Ring, {"std": -0.1}),
    ],
)
def test_settings_without_meaning_are_refused(toy, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        toy(**wrong)


def test_drawing_leaves_torchs_own_generator_alone():
    before = torch.get_rng_state()
    Gaussian(samples=10).build(Setup())
    Key(0).generator("data")
    assert torch.equal(before, torch.get_rng_state())
