"""Claims about the inception score: closed forms, the definition, what is refused."""

from __future__ import annotations

import math

import pytest
import torch

from genkit.errors import DataError
from genkit_metrics import blocks
from genkit_metrics.inception_score import inception_score

I = torch.arange(700, dtype=torch.float64).reshape(100, 7)  # noqa: E741
LOGITS = 4 * torch.sin(0.0017 * I.square() + 0.9 * I + 1)


@pytest.mark.parametrize(
    ("splits", "expected"), [(1, 2.559956853486083), (3, 2.523995338552641), (10, 2.2883359984390483)]
)
@pytest.mark.parametrize("mean", [0, 1e4])
def test_fixed_vectors(splits, expected, mean):
    """Of torch-fidelity 0.4.0 without shuffling; 100 rows in 3 parts are 33, 33 and 34."""
    assert inception_score(LOGITS + mean, splits) == pytest.approx(expected, rel=1e-11)
    assert inception_score((LOGITS + mean).numpy(), splits) == pytest.approx(expected, rel=1e-11)


def test_closed_forms():
    sure = torch.eye(6).repeat(5, 1) * 1e4  # each class as often, no doubt: as many as there are classes
    assert inception_score(sure, 5) == pytest.approx(6, rel=1e-12)
    assert inception_score(sure[:1].repeat(9, 1), 1) == pytest.approx(1, rel=1e-12)  # always the same class
    assert inception_score(torch.zeros(8, 4), 2) == pytest.approx(1, rel=1e-12)  # nothing is of any class
    p = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64)
    divergence = sum(0.5 * v * math.log(v / m) for row in p.tolist() for v, m in zip(row, (0.6, 0.4), strict=True))
    assert inception_score(p.log(), 1) == pytest.approx(math.exp(divergence), rel=1e-13)


def test_blocks_change_nothing(monkeypatch):
    whole = inception_score(LOGITS, 3)
    monkeypatch.setattr(blocks, "SIDE", 9)
    assert inception_score(LOGITS, 3) == pytest.approx(whole, rel=1e-13)


@pytest.mark.parametrize(
    ("logits", "splits", "said"),
    [
        (LOGITS[:9], 10, "9 generated samples; splits = 10"),
        (LOGITS, 0, "splits = 0"),
        (LOGITS[0], 1, "shape (7,)"),
        (LOGITS / 0, 1, "NaN or infinite"),
    ],
)
def test_refuses_in_one_line(logits, splits, said):
    with pytest.raises(DataError) as refused:
        inception_score(logits, splits)
    assert said in str(refused.value) and refused.value.hint
