"""Claims about precision and recall: the definition, ties, what is refused."""

from __future__ import annotations

import pytest
import torch
from genkit_metrics import manifold
from genkit_metrics.manifold import precision_recall

from genkit.errors import DataError


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


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_is_the_definition(k, seed):
    real, fake = pair(70, 50, 4, seed)
    assert precision_recall(real, fake, k) == pytest.approx(brute(real, fake, k), abs=1e-15)


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
    whole = precision_recall(real, fake)
    monkeypatch.setattr(manifold, "BLOCK", 210)
    assert precision_recall(real, fake) == whole


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
        (torch.zeros(3, 2), torch.zeros(9, 2), 3, "k = 3 with 3 real samples"),
        (torch.zeros(9, 2), torch.zeros(3, 2), 3, "k = 3 with 3 generated samples"),
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
