"""Claims about moments: exact far from zero, in any order, however samples are split."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genkit.errors import DataError
from genkit_metrics.moments import CHUNK, Moments


def samples(n: int, d: int = 5, mean: float = 1000.0, seed: int = 0) -> torch.Tensor:
    """Correlated, of standard deviations about 1."""
    generator = torch.Generator().manual_seed(seed)
    x, mix = (torch.randn(k, d, generator=generator, dtype=torch.float64) for k in (n, d))
    return mean + x + 0.3 * x @ mix


def moments(*parts: torch.Tensor) -> Moments:
    made = Moments()
    for part in parts:
        made.update(part)
    return made


def require_same(got: Moments, x: torch.Tensor) -> None:
    """As of all samples at once, about a centre near them."""
    centre = x[0].clone()
    assert got.n == len(x)
    assert torch.allclose(got.mean, centre + (x - centre).mean(0), rtol=1e-13, atol=0)
    exact = torch.cov((x - centre).T).reshape(x.shape[1], x.shape[1])
    assert float((got.covariance() - exact).norm()) <= 1e-10 * float(exact.norm())


@pytest.mark.parametrize("mean", [0.0, 1.0, 1000.0, -1e6])
@pytest.mark.parametrize("batch", [1, 7, 300])
def test_of_batches(mean, batch):
    x = samples(300, mean=mean)
    require_same(moments(*x.split(batch)), x)


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 60), max_size=6),
    order=st.permutations(range(60)),
    tree=st.randoms(use_true_random=False),
)
def test_of_any_order_and_sharding(cuts, order, tree):
    x = samples(60)
    edges = [0, *sorted(cuts), 60]
    shards = [moments(x[order][a:b]) for a, b in pairwise(edges)]
    while len(shards) > 1:
        left, right = (shards.pop(tree.randrange(len(shards))) for _ in range(2))
        left.merge(right)
        shards.append(left)
    require_same(shards[0], x)


def test_of_more_than_a_chunk_and_of_float32():
    x = samples(CHUNK + 3, d=2).float()
    require_same(moments(x), x.double())


def test_merging_leaves_the_other_alone():
    x = samples(20)
    left, right = Moments(), moments(x[:10])
    left.merge(right)
    left.update(x[10:])
    require_same(right, x[:10])
    require_same(left, x)


def test_rows_that_count_several_times():
    x, times = samples(6), torch.tensor([2, 0, 1, 5, 0, 3])
    got = Moments()
    got.update(x, times)
    require_same(got, x.repeat_interleave(times, 0))


def test_memory_does_not_grow_with_samples():
    few, many = moments(samples(2)), moments(*samples(2000).split(100))
    assert all(getattr(few, name).shape == getattr(many, name).shape for name in ("_mean", "_squares"))
    assert copy.deepcopy(many).covariance().equal(many.covariance())


@pytest.mark.parametrize(
    ("do", "said"),
    [
        (lambda: moments(torch.tensor([[0.0, torch.nan]])), "NaN"),
        (lambda: moments(torch.zeros(3)), "shape (3,)"),
        (lambda: moments(torch.zeros(3, 0)), "shape (3, 0)"),
        (lambda: moments(torch.zeros(3, 2), torch.zeros(3, 4)), "4 features after 2"),
        (lambda: moments(torch.zeros(3, 2)).merge(moments(torch.zeros(3, 4))), "4 features after 2"),
        (lambda: Moments().update(torch.zeros(3, 2), torch.ones(4)), "4 counts for 3 samples"),
        (lambda: Moments().mean, "no samples"),
        (lambda: moments(torch.zeros(1, 2)).covariance(), "1 samples; give at least 2"),
        (lambda: moments(torch.zeros(0, 2)).covariance(), "0 samples"),
    ],
)
def test_refuses_in_one_line(do, said):
    with pytest.raises(DataError) as refused:
        do()
    assert said in str(refused.value)
