"""Claims about the kernel inception distance: the definition, exactly, also far from zero."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from genkit.errors import DataError
from genkit_metrics import blocks
from genkit_metrics.kid import kid


def wave(n: int, d: int, phase: float) -> torch.Tensor:
    """Fixed numbers that any language can make: sin(0.0017 i^2 + 0.9 i + phase), i = 0, 1, …"""
    i = torch.arange(n * d, dtype=torch.float64).reshape(n, d)
    return torch.sin(0.0017 * i.square() + 0.9 * i + phase)


REAL, FAKE = wave(80, 5, 0.0), 0.8 * wave(60, 5, 2.0) + 0.2
SUBSETS = [(range(40), range(20, 60)), (list(range(1, 60, 2)), torch.arange(0, 60, 2))]


def exact(x: torch.Tensor, y: torch.Tensor) -> float:
    """The definition in fractions."""
    a, b = ([[Fraction(float(v)) for v in row] for row in rows] for rows in (x, y))
    n, m, d = len(a), len(b), len(a[0])

    def total(rows, others, same=False):
        pairs = ((p, q) for i, p in enumerate(rows) for j, q in enumerate(others) if not (same and i == j))
        return sum((sum(s * t for s, t in zip(p, q, strict=True)) / d + 1) ** 3 for p, q in pairs)

    return float(total(a, a, True) / (n * (n - 1)) + total(b, b, True) / (m * (m - 1)) - 2 * total(a, b) / (n * m))


def test_fixed_vector():
    """Of torch-fidelity 0.4.0, kernel_mmd of each subset."""
    assert kid(REAL, FAKE, SUBSETS) == pytest.approx((0.3158936609690568 + 0.12831670921469973) / 2, rel=1e-13)
    assert kid(REAL.numpy(), FAKE.numpy(), SUBSETS[:1]) == pytest.approx(0.3158936609690568, rel=1e-13)


@pytest.mark.parametrize("mean", [0, 1000, -1000, 1e6])
def test_is_the_definition_far_from_zero(mean):
    """Kernels of 1e18 there, of which float64 loses 8 %, and float32 everything, if they are subtracted as they are."""
    x, y = REAL[:12] + mean, FAKE[:10] + mean
    assert kid(x, y, [(range(12), range(10))]) == pytest.approx(exact(x, y), rel=1e-12)


def test_float32_features_are_taken_as_they_are():
    x, y = (REAL[:12] + 1000).float(), (FAKE[:10] + 1000).float()
    assert kid(x, y, [(range(12), range(10))]) == pytest.approx(exact(x, y), rel=1e-12)


def test_blocks_change_nothing(monkeypatch):
    whole = kid(REAL, FAKE, SUBSETS)
    monkeypatch.setattr(blocks, "SIDE", 7)
    assert kid(REAL, FAKE, SUBSETS) == pytest.approx(whole, rel=1e-12)


def test_is_unbiased():
    """Two draws from one law: as often below zero as above, about zero."""
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor(
        [kid(*torch.randn(2, 20, 3, generator=generator), [(range(20), range(20))]) for _ in range(200)]
    )
    assert 60 < int((values < 0).sum()) < 160
    assert abs(float(values.mean())) < 4 * float(values.std()) / 200**0.5


@pytest.mark.parametrize(
    ("x", "y", "subsets", "said"),
    [
        (REAL[:1], FAKE, SUBSETS, "1 real samples"),
        (REAL, FAKE[:, :4], SUBSETS, "4 generated features, 5 real ones"),
        (REAL, FAKE * torch.nan, SUBSETS, "generated features are NaN"),
        (REAL, FAKE, [], "no subsets"),
        (REAL, FAKE, [([1], [1, 2])], "a subset of 1"),
        (REAL, FAKE, [([1, 80], [1, 2])], "has row 80 of 80"),
    ],
)
def test_refuses_in_one_line(x, y, subsets, said):
    with pytest.raises(DataError) as refused:
        kid(x, y, subsets)
    assert said in str(refused.value) and refused.value.hint
