"""Claims about what is kept of a stream: bounded, even, whatever the batches."""

from __future__ import annotations

import copy

import pytest
import torch

from genkit.errors import DataError
from genkit.evaluation import sampling
from genkit.training import processes
from genkit_metrics.subsample import Subsample


def kept(stream: torch.Tensor, batch: int, limit: int) -> Subsample:
    made = Subsample(limit)
    for part in stream.split(batch):
        made.update(part)
    return made


STREAM = torch.arange(1000.0)[:, None]


def test_all_while_there_is_room():
    assert kept(STREAM, 64, 1000).rows.equal(STREAM)
    assert Subsample(5).rows.shape == (0, 0)


@pytest.mark.parametrize("limit", [10, 64, 333])
def test_evenly_spread_and_whatever_the_batches(limit):
    whole = kept(STREAM, 1000, limit).rows
    assert len(whole) == limit
    assert all(kept(STREAM, batch, limit).rows.equal(whole) for batch in (1, 7, 256))
    gaps = whole[:, 0].diff()
    assert gaps.min() >= 1
    assert gaps.max() <= 3 * 1000 / limit


@pytest.mark.parametrize("limit", [100, 2000])
@pytest.mark.parametrize("world", [2, 3])
def test_the_same_rows_in_the_same_order_however_many_processes(monkeypatch, world, limit):
    whole = kept(STREAM, 256, limit)
    monkeypatch.setattr(processes, "world", lambda: world)
    merged = Subsample(limit)
    for rank in range(world):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        own = Subsample(limit)
        for index, count in sampling.shard(len(STREAM), rank, world):
            own.update(STREAM[index * sampling.BLOCK :][:count])
        merged.merge(own)
    assert merged.n == whole.n and merged.rows.equal(whole.rows)


def test_merged_streams_give_their_shares():
    left, right = kept(STREAM, 100, 50), kept(-STREAM[:500], 100, 50)
    left.merge(right)
    rows = left.rows
    assert (left.n, len(rows)) == (1500, 50)
    assert 14 <= int((rows < 0).sum()) <= 20


def test_copies_share_memory_but_not_what_comes_later():
    first = kept(STREAM[:10], 10, 20)
    second = copy.deepcopy(first)
    assert second._parts[0][2].data_ptr() == first._parts[0][2].data_ptr()
    second.update(STREAM[10:15])
    assert (len(first.rows), len(second.rows), first.n) == (10, 15, 10)


def test_memory_is_bounded():
    made = kept(STREAM, 3, 10)
    assert sum(len(keys) for keys, *_ in made._parts) <= 2 * 10 + 3


def test_refuses_another_width():
    with pytest.raises(DataError, match="2 features after 1"):
        kept(STREAM, 100, 50).update(torch.zeros(3, 2))
