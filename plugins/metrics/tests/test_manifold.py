"""Claims about precision, recall, density and coverage: the definitions, ties, what is refused."""

from __future__ import annotations

import pytest
import torch

from genkit.errors import DataError
from genkit_metrics import blocks
from genkit_metrics.manifold import density_coverage, precision_recall


def brute(real: torch.Tensor, fake: torch.Tensor, k: int) -> tuple[float, float]:
    """The definition, pair by pair; exact for whole numbers."""

    def covered(points: torch.Tensor, centres: torch.Tensor) -> float:
        within = (centres[:, None] - centres).square().sum(2)
        radius = torch.stack([row[torch.arange(len(row)) != i].sort().values[k - 1] for i, row in enumerate(within)])
        return float(((points[:, None] - centres).square().sum(2) <= radius).any(1).double().mean())

    return covered(fake, real), covered(real, fake)


def pair(n: int, m: int, d: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    real, fake = (torch.randn(size, d, generator=generator, dtype=torch.float64) for size in (n, m))
    return real, 0.7 * fake + 0.5


def brute_density(real: torch.Tensor, fake: torch.Tensor, k: int) -> tuple[float, float]:
    """The definition, pair by pair."""
    own = (real[:, None] - real).square().sum(2)
    radius = torch.stack([row[torch.arange(len(row)) != i].sort().values[k - 1] for i, row in enumerate(own)])
    within = (real[:, None] - fake).square().sum(2) < radius[:, None]
    return float(within.sum() / (k * len(fake))), float(within.any(1).double().mean())


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_is_the_definition(k, seed):
    real, fake = pair(70, 50, 4, seed)
    assert precision_recall(real, fake, k) == pytest.approx(brute(real, fake, k), abs=1e-15)
    assert density_coverage(real, fake, k) == pytest.approx(brute_density(real, fake, k), rel=1e-7)


def wave(n: int, d: int, phase: float) -> torch.Tensor:
    """Fixed numbers that any language can make: sin(0.0017 i^2 + 0.9 i + phase), i = 0, 1, …"""
    i = torch.arange(n * d, dtype=torch.float64).reshape(n, d)
    return torch.sin(0.0017 * i.square() + 0.9 * i + phase)


@pytest.mark.parametrize(
    ("k", "expected"),
    [(3, (0.8833333333333333, 0.4125, 0.7666666666666666, 0.4875)), (5, (1, 0.7625, 67 / 60, 0.7625))],
)
@pytest.mark.parametrize("mean", [0, 1e5])
def test_fixed_vectors(k, expected, mean):
    """Of prdc 0.2; far from zero, distances of raw float32 features would be noise."""
    real, fake = wave(80, 5, 0.0) + mean, 0.8 * wave(60, 5, 2.0) + 0.2 + mean
    assert precision_recall(real, fake, k) + density_coverage(real, fake, k) == pytest.approx(expected, abs=1e-14)


def test_density_of_a_set_against_itself():
    """Each point lies in the balls of k others on average, its own among them; borders are outside."""
    real, _ = pair(70, 1, 4, 3)
    assert density_coverage(real, real.flip(0), 4) == (pytest.approx(1), 1)
    assert density_coverage(real / 127.5 + 3, real.flip(0) / 127.5 + 3, 4) == (pytest.approx(1), 1)
    far = density_coverage(real, real[:1] + 1000, 4)
    assert far == (0, 0)


@pytest.mark.parametrize("seed", range(6))
def test_ties_of_quantised_images_lie_inside(seed):
    """Whole numbers: many points lie exactly on a border, and many are the same."""
    generator = torch.Generator().manual_seed(seed)
    real, fake = (torch.randint(4, (60, 3), generator=generator).double() for _ in range(2))
    expected = brute(real, 2 * fake - 1, 2)
    assert precision_recall(real / 127.5 - 1, (2 * fake - 1) / 127.5 - 1, 2) == pytest.approx(expected, abs=1e-15)


def test_far_from_zero():
    real, fake = pair(70, 50, 4, 0)
    assert precision_recall(real + 1e5, fake + 1e5) == pytest.approx(precision_recall(real, fake), abs=1e-15)


def test_blocks_change_nothing(monkeypatch):
    real, fake = pair(70, 50, 4, 1)
    whole = precision_recall(real, fake), density_coverage(real, fake)
    monkeypatch.setattr(blocks, "SIDE", 16)
    assert (precision_recall(real, fake), density_coverage(real, fake)) == whole


def test_known_cases():
    real, fake = pair(70, 50, 4, 2)
    assert precision_recall(real, real.flip(0)) == (1, 1)
    assert precision_recall(real, fake + 1000) == (0, 0)
    one_mode = real[:1] + 1e-6 * fake
    precision, recall = precision_recall(real, one_mode)
    assert precision == 1
    assert recall <= 1 / 70
    assert precision_recall(real[:, :1].numpy(), fake[:, :1].float().numpy())[0] > 0


@pytest.mark.parametrize(
    ("real", "fake", "k", "said"),
    [
        (torch.zeros(3, 2), torch.zeros(9, 2), 3, "3 real samples; k = 3: give at least 4"),
        (torch.zeros(9, 2), torch.zeros(3, 2), 3, "3 generated samples; k = 3"),
        (torch.zeros(9, 2), torch.zeros(9, 2), 0, "k = 0"),
        (torch.zeros(9, 2), torch.zeros(9, 3), 3, "3 generated features, 2 real ones"),
        (torch.zeros(9, 2), torch.full((9, 2), torch.nan), 3, "generated features are NaN"),
        (torch.zeros(9), torch.zeros(9, 3), 3, "shape (9,)"),
    ],
)
def test_refuses_in_one_line(real, fake, k, said):
    with pytest.raises(DataError) as refused:
        precision_recall(real, fake, k)
    assert said in str(refused.value)
    assert refused.value.hint
    with pytest.raises(DataError):
        density_coverage(real, fake[:0] if said.startswith("3 generated samples") else fake, k)
