"""Batches: the same images at the same positions, mirrored alike, however many processes share them."""

import pytest
import torch

from genkit.data import Resident, batches, drop_labels
from genkit.keys import Key
from genkit.kinds import Spec

SPEC = Spec(channels=1, height=2, width=3, classes=5, flip=True)
X = torch.arange(30 * 6, dtype=torch.uint8).reshape(30, 1, 2, 3)
DATA = Resident(x=X, spec=SPEC, identity="x", cond={"label": torch.arange(30) % 5})


@pytest.mark.parametrize("world", [2, 8])
def test_processes_share_the_batches_of_one(world):
    streams = [batches(DATA, 3, 4, 16, rank, world) for rank in range(world)]
    for k, whole in zip(range(4, 8), batches(DATA, 3, 4, 16), strict=False):
        shares = [next(stream) for stream in streams]
        assert torch.equal(torch.cat([share.x for share in shares]), whole.x)
        keys = [Key(3, k, rank, world=world) for rank in range(world)]
        dropped = [drop_labels(share.cond, 0.4, 5, key)["label"] for share, key in zip(shares, keys, strict=True)]
        assert torch.equal(torch.cat(dropped), drop_labels(whole.cond, 0.4, 5, Key(3, k))["label"])
        mirrored = [any(torch.equal(x.flip(-1), y / 127.5 - 1) for y in X) for x in whole.x]
        assert 0 < sum(mirrored) < 16 and (torch.cat(dropped) == 5).any()
