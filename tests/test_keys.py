"""Laws of randomness: draws are functions of (seed, step, position, purpose) and of nothing else."""

import hashlib

import pytest
import torch
from torch.nn.functional import dropout

from genkit.keys import Key, order


def test_a_seed_is_the_first_eight_bytes_of_blake2b_of_its_address():
    digest = hashlib.blake2b(b"7/3/1/0/eps/4", digest_size=8).digest()
    assert Key(7, 3, 1).integer("eps", 4) == int.from_bytes(digest, "big") >> 1


@pytest.mark.parametrize("other", [Key(1, 2, 3, world=5), Key(0, 3, 3, world=5), Key(0, 2, 4, world=5)])
def test_seed_step_and_rank_each_change_every_draw(other):
    like, key = torch.empty(2, 3), Key(0, 2, 3, world=5)
    assert not torch.equal(key.normal("eps", like), other.normal("eps", like))
    one, two = (torch.rand(2, generator=k.generator("mine")) for k in (key, other))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("world", [1, 2, 8])
@pytest.mark.parametrize("part", [1, 2])
def test_however_many_processes_draw_what_one_draws(world, part):
    eps, u, share = Key(7, 5).normal("eps", torch.empty(16, 3)), Key(7, 5).uniform("level", 16), 16 // world
    got_eps, got_u = [], []
    for rank in range(world):
        key = Key(7, 5, rank, world=world)
        for micro, start in enumerate(range(0, share, part)):
            stop = min(share, start + part)
            mine = key.part(micro, start, stop, share) if part < share else key
            got_eps.append(mine.during("critic").normal("eps", torch.empty(stop - start, 3)))
            got_u.append(mine.uniform("level", stop - start))
    assert torch.equal(torch.cat(got_eps), eps) and torch.equal(torch.cat(got_u), u)


def test_purposes_do_not_share_draws():
    like = torch.empty(4, 2)
    assert not torch.equal(Key(0).normal("eps", like), Key(0).normal("sample", like))


@pytest.mark.parametrize("part", [1, 3, 8, 16])
def test_micro_batches_get_the_rows_of_the_whole_batch(part):
    whole = Key(0, 5)
    eps, u = whole.normal("eps", torch.empty(8, 2)), whole.uniform("level", 8)
    key, got_eps, got_u = Key(0, 5), [], []
    for micro, start in enumerate(range(0, 8, part)):
        stop = min(8, start + part)
        mine = key.part(micro, start, stop, 8)
        got_eps.append(mine.normal("eps", torch.empty(stop - start, 2)))
        got_u.append(mine.uniform("level", stop - start))
    assert torch.equal(torch.cat(got_eps), eps) and torch.equal(torch.cat(got_u), u)


def test_two_passes_under_one_key_share_their_dropout_mask_and_leave_the_generator_alone():
    x, before = torch.ones(1000), torch.get_rng_state()
    masks = []
    for key in (Key(0, 1), Key(0, 1), Key(0, 2)):
        with key.reseeded("cpu"):
            masks.append(dropout(x, 0.5))
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("device", "card"), [("cuda:0", 0), ("cuda", 1)])
def test_masks_are_drawn_by_the_generator_of_the_device_that_trains(monkeypatch, device, card):
    """Restoring the CPU's state alone, as published code did, leaves two passes on a GPU with two masks."""
    cards, before, masks = [torch.Generator(), torch.Generator()], torch.get_rng_state(), []
    monkeypatch.setattr(torch.cuda, "default_generators", cards)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    for _ in range(2):
        with Key(0, 1).reseeded(device):
            assert torch.equal(torch.get_rng_state(), before)
            masks.append(torch.rand(8, generator=cards[card]))
    assert torch.equal(*masks)


def test_micro_batches_have_masks_of_their_own():
    x, masks = torch.ones(100), []
    for micro in (0, 1):
        with Key(0, 1).part(micro, 0, 1, 2).reseeded("cpu"):
            masks.append(dropout(x, 0.5))
    assert not torch.equal(*masks)


def test_every_sample_comes_once_an_epoch_whatever_the_batch_size():
    n = 10
    at_once = order(0, 0, 40, n)
    assert torch.equal(torch.cat([order(0, p, 7, n) for p in range(0, 35, 7)]), at_once[:35])
    for epoch in at_once.reshape(4, n):
        assert sorted(epoch.tolist()) == list(range(n))
    assert not torch.equal(at_once[:n], at_once[n : 2 * n])


def test_resuming_anywhere_continues_the_order():
    assert torch.equal(order(3, 13, 20, 9), order(3, 0, 33, 9)[13:])
