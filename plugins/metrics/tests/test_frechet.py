"""Claims about the Fréchet distance: closed forms, singular covariances, what is refused."""

from __future__ import annotations

import pytest
import scipy.linalg
import torch

from genkit.errors import DataError
from genkit_metrics.frechet import distance_from_factors, factor, frechet_distance

ACCURACY = 1e-10


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d: int, seed: int = 0) -> torch.Tensor:
    return torch.linalg.qr(normal(d, d, seed=seed)).Q


def covariance(d: int, rank: int, decay: float = 1.5, seed: int = 0) -> torch.Tensor:
    """Variances i^-decay along random directions, 0 beyond the rank."""
    spectrum = torch.arange(1, d + 1, dtype=torch.float64) ** -decay
    spectrum[rank:] = 0
    q = rotation(d, seed)
    return (q * spectrum) @ q.T


def transport(d: int, seed: int = 5) -> torch.Tensor:
    """A symmetric positive matrix: x -> A x is the optimal transport of any normal law."""
    q = rotation(d, seed)
    return (q * torch.linspace(0.3, 2.5, d, dtype=torch.float64)) @ q.T


@pytest.mark.parametrize("d", [1, 2, 7, 64, 200])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.0], ids=["full", "half", "zero"])
def test_non_commuting_closed_form(d, share):
    """S2 = A S1 A has FD = tr((I - A) S1 (I - A)) + |m1 - m2|^2, for singular S1 too."""
    s1, a = covariance(d, int(d * share)), transport(d)
    move = torch.eye(d, dtype=torch.float64) - a
    m1, m2 = normal(2, d, seed=9)
    exact = float((move @ s1 @ move).trace() + (m1 - m2).square().sum())
    assert frechet_distance(m1, s1, m2, a @ s1 @ a) == pytest.approx(exact, rel=ACCURACY)


def test_commuting_closed_form_over_twelve_orders_of_magnitude():
    """Diagonal covariances: FD = sum (s1 - s2)^2."""
    s1 = torch.logspace(0, -6, 60, dtype=torch.float64)
    s2 = s1.flip(0)
    exact = float((s1 - s2).square().sum())
    zero = torch.zeros(60)
    assert frechet_distance(zero, s1.square().diag(), zero, s2.square().diag()) == pytest.approx(exact, rel=ACCURACY)


def test_disjoint_supports_share_nothing():
    d, q = 40, rotation(40)
    first, second = q[:, :20] @ q[:, :20].T, 3 * q[:, 20:] @ q[:, 20:].T
    zero = torch.zeros(d)
    assert frechet_distance(zero, first, zero, second) == pytest.approx(20 + 60, rel=ACCURACY)


@pytest.mark.parametrize("rank", [0, 1, 20, 40])
def test_identical_laws_are_at_no_distance(rank):
    s = covariance(40, rank)
    distance = frechet_distance(torch.ones(40), s, torch.ones(40), s.clone())
    assert 0 <= distance <= 1e-13 * float(s.trace())


def test_ill_conditioned():
    s1, a = covariance(50, 50, decay=7.0), transport(50)
    assert torch.linalg.cond(s1) > 1e11
    move = torch.eye(50, dtype=torch.float64) - a
    exact = float((move @ s1 @ move).trace())
    assert frechet_distance(torch.zeros(50), s1, torch.zeros(50), a @ s1 @ a) == pytest.approx(exact, rel=ACCURACY)


def test_one_dimension():
    assert frechet_distance([1.0], [[4.0]], [3.0], [[9.0]]) == pytest.approx(4 + 1, rel=ACCURACY)


def test_agrees_with_the_root_of_the_product():
    s1, s2 = covariance(12, 12), covariance(12, 12, seed=3)
    m1, m2 = normal(2, 12, seed=4)
    root = scipy.linalg.sqrtm((s1 @ s2).numpy()).real.trace()
    expected = float((m1 - m2).square().sum() + s1.trace() + s2.trace() - 2 * root)
    assert frechet_distance(m1.numpy(), s1.numpy(), m2.numpy(), s2.numpy()) == pytest.approx(expected, rel=1e-9)


def test_symmetric_and_unmoved_by_rotations():
    s1, s2, q = covariance(30, 30), covariance(30, 12, seed=3), rotation(30, seed=8)
    m1, m2 = normal(2, 30)
    distance = frechet_distance(m1, s1, m2, s2)
    assert frechet_distance(m2, s2, m1, s1) == pytest.approx(distance, rel=ACCURACY)
    assert frechet_distance(q @ m1, q @ s1 @ q.T, q @ m2, q @ s2 @ q.T) == pytest.approx(distance, rel=ACCURACY)


@pytest.mark.parametrize("rank", [0, 1, 10, 25])
def test_a_factor_gives_its_covariance_back(rank):
    s = covariance(25, rank)
    a = factor(s)
    assert a.shape == (25, rank)
    assert torch.allclose(a @ a.T, s, rtol=0, atol=1e-14)


@pytest.mark.parametrize("seed", range(12))
def test_rounding_is_no_variance(seed):
    """Cholesky goes through on half of these singular matrices, once with a pivot 1,000 times its noise."""
    assert factor(covariance(25, 24, decay=0.0, seed=seed)).shape == (25, 24)


def test_centred_samples_are_a_factor():
    x, y = normal(8, 30), normal(50, 30, seed=2)
    factors = [((z - z.mean(0)) / (len(z) - 1) ** 0.5).T for z in (x, y)]
    expected = frechet_distance(x.mean(0), torch.cov(x.T), y.mean(0), torch.cov(y.T))
    assert distance_from_factors(x.mean(0), factors[0], y.mean(0), factors[1]) == pytest.approx(expected, rel=ACCURACY)


EYE, ZERO = torch.eye(3), torch.zeros(3)
NAN, LOPSIDED = EYE.clone(), EYE.clone()
NAN[0, 0], LOPSIDED[0, 1] = torch.nan, 0.1


@pytest.mark.parametrize(
    ("mean", "cov", "said"),
    [
        (ZERO, NAN, "a covariance is not finite"),
        (torch.full((3,), torch.inf), EYE, "a mean is not finite"),
        (ZERO, LOPSIDED, "not symmetric"),
        (ZERO, torch.diag(torch.tensor([1.0, 1.0, -1e-3])), "eigenvalue -0.001"),
        (ZERO, -EYE, "eigenvalue -1"),
        (torch.zeros(2), EYE, "do not belong together"),
        (torch.zeros(2), torch.eye(2), "do not belong together"),
        (ZERO, torch.ones(3, 2), "of shape (3, 2)"),
        (ZERO, torch.ones(3), "of shape (3,)"),
        (ZERO, torch.ones(0, 0), "of shape (0, 0)"),
        (torch.full((3,), 1e200, dtype=torch.float64), EYE, "came out as inf"),
    ],
)
def test_refuses_in_one_line(mean, cov, said):
    with pytest.raises(DataError) as refused:
        frechet_distance(mean.double(), cov, ZERO, EYE)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.hint


def test_rounding_below_zero_is_accepted():
    s = torch.diag(torch.tensor([1.0, 1.0, -1e-9], dtype=torch.float64))
    assert frechet_distance(ZERO, s, ZERO, s) == pytest.approx(0, abs=1e-14)
