"""Claims about augmentation: the numbers tell how an image was moved, and nothing but training sees it moved."""

from __future__ import annotations

import itertools
import math

import attrs
import pytest
import torch

import genkit
from genkit.data import batches
from genkit.evaluation import images
from genkit.keys import Key
from genkit.kinds import Batch, Setup
from genkit_images.augment import NUMBERS, TRANSFORMS, Moves

HEIGHT, WIDTH = 48, 64


def blob(centre, count):
    """A narrow normal density about (x, y), in pixels from the centre of the image; (count, 1, H, W)."""
    y, x = torch.meshgrid(torch.arange(HEIGHT) - (HEIGHT - 1) / 2, torch.arange(WIDTH) - (WIDTH - 1) / 2, indexing="ij")
    density = (-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * 1.5**2)).exp()
    return density.expand(count, 1, HEIGHT, WIDTH).clone()


def centre(image, near):
    """Where the mass of an image is, no further than 9 pixels from a place: reflections at the border are elsewhere."""
    y, x = torch.meshgrid(torch.arange(HEIGHT) - (HEIGHT - 1) / 2, torch.arange(WIDTH) - (WIDTH - 1) / 2, indexing="ij")
    mass = image[0] * ((x - near[0]) ** 2 + (y - near[1]) ** 2 < 81)
    return torch.stack([(mass * x).sum(), (mass * y).sum()]) / mass.sum()


def turned(angle):
    return torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def content(told, sign):
    """The matrix (2, 3) that moves what is at p to where it is seen, by the numbers, but for the sign of a5."""
    a0, a1, a2, cos, sin, along, across, a6, a7 = told.tolist()
    matrix = 2 ** (a2 / 5) * torch.diag(torch.tensor([1 - 2 * a0, 1 - 2 * a1]))
    matrix = turned(-math.atan2(sin, cos + 1)) @ matrix
    a4, a5 = math.atan2(across, along), sign * math.hypot(across, along)
    stretch = torch.diag(torch.tensor([2 ** (a5 / 5), 2 ** (-a5 / 5)]))
    matrix = turned(a4) @ stretch @ turned(-a4) @ matrix
    return torch.cat([matrix, torch.tensor([[a6 * WIDTH / 8], [a7 * HEIGHT / 8]])], 1)


@pytest.mark.parametrize("way", [*TRANSFORMS, "all"])
def test_what_is_at_a_place_moves_to_where_the_numbers_say(way):
    moves = Moves(1.0, TRANSFORMS if way == "all" else (way,))
    seen = 0
    for place in ((7.0, 0.0), (-3.0, 5.0)):
        x, told = moves(Batch(blob(place, 40), {}), Key(3))
        told = told["augment"]
        for image, numbers in zip(x, told, strict=True):
            either = [content(numbers, sign) @ torch.tensor([*place, 1.0]) for sign in (1, -1)]
            if max(expected.abs().max() for expected in either) < 12:
                seen += 1
                miss = min((centre(image, expected) - expected).abs().max() for expected in either)
                assert miss < 0.1, (way, numbers)
        assert told.shape == (40, NUMBERS) and told.abs().max() > 0.5
    assert seen > 30


def test_each_way_comes_with_its_chance_and_mirroring_always():
    x = torch.zeros(20_000, 1, 2, 2)
    told = Moves(0.12)(Batch(x, {}), Key(0)).cond["augment"]
    shares = [(told[:, i] != 0).float().mean().item() for i in (0, 1, 2, 4, 5, 7)]
    for share, expected in zip(shares, (0.5, 0.06, 0.12, 0.12, 0.12, 0.12), strict=True):
        assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 20_000))
    loose = [told[:, i][told[:, i] != 0].std().item() for i in (2, 7, 8)]
    assert loose == pytest.approx([1, 1, 1], abs=0.06)


def test_an_image_that_is_not_moved_keeps_its_pixels_and_a_mirrored_one_its_columns():
    x = torch.randn(200, 3, 6, 8)
    moved, cond = Moves(0.12)(Batch(x, {}), Key(1))
    told = cond["augment"]
    still = told[:, 1:].abs().sum(1) == 0
    assert 60 < still.sum() < 150
    for image, given, numbers in zip(moved[still], x[still], told[still], strict=True):
        assert torch.equal(image, given.flip(-1) if numbers[0] else given)
    assert all(not torch.equal(a, b) for a, b in zip(moved[~still], x[~still], strict=True))


def test_ways_that_are_left_out_never_come_and_the_numbers_keep_their_places():
    told = Moves(1.0, ("scale", "translation"))(Batch(torch.zeros(50, 1, 4, 4), {}), Key(0)).cond["augment"]
    assert [bool((told[:, i] != 0).any()) for i in range(NUMBERS)] == [i in (2, 7, 8) for i in range(NUMBERS)]


@pytest.fixture
def digits():
    return genkit.build(genkit.component("dataset", "digits", augment=0.5), Setup())


def test_any_number_of_processes_sees_the_same_images_moved_alike(digits):
    whole = list(itertools.islice(batches(digits, 0, 3, 8), 2))
    halves = [list(itertools.islice(batches(digits, 0, 3, 8, rank, 2), 2)) for rank in (0, 1)]
    for one, *two in zip(whole, *halves, strict=True):
        assert torch.equal(one.x, torch.cat([half.x for half in two]))
        assert torch.equal(one.cond["augment"], torch.cat([half.cond["augment"] for half in two]))
    assert not torch.equal(whole[0].cond["augment"], whole[1].cond["augment"])


def test_metrics_and_identities_know_nothing_of_it(digits):
    plain = genkit.build(genkit.component("dataset", "digits"), Setup())
    assert (digits.identity, digits.held_out.identity) == (plain.identity, plain.held_out.identity)
    for ours, theirs in ((digits, plain), (digits.held_out, plain.held_out)):
        a, b = images.block(ours, 0, 64), images.block(theirs, 0, 64)
        assert torch.equal(a.x, b.x) and not a.cond
    assert attrs.evolve(digits.spec, augment=0) == plain.spec and plain.augment is None


@pytest.mark.parametrize("network", ["unet", "mlp", "ncsnpp", "adm"])
def test_a_network_learns_what_it_is_told_and_samples_as_if_told_zeros(network, digits):
    small = {"model_channels": 8, "num_blocks": 1} if network != "mlp" else {"width": 16}
    data = digits
    context = genkit.Context(spec=data.spec, total_steps=4)
    program = genkit.build(genkit.component("objective", "diffusion", network={"use": network, **small}), context)
    state = genkit.State.of(program, genkit.component("optimizer", "adam"), genkit.component("ema", "constant"))
    layer = next(p for name, p in program.student.named_parameters() if name.endswith("augment.weight"))
    before = layer.detach().clone()
    for _ in genkit.train(state, data, steps=4, batch_size=8):
        pass
    assert not torch.equal(layer, before)
    x, c = torch.randn(3, *data.spec.shape), torch.zeros(3)
    net = program.student.network.eval()
    told = torch.randn(3, NUMBERS)
    assert torch.equal(net(x, c, {}), net(x, c, {"augment": torch.zeros(3, NUMBERS)}))
    assert not torch.equal(net(x, c, {}), net(x, c, {"augment": told}))
    assert genkit.sample(program.student.eval(), 2, seed=0).shape == (2, 1, 8, 8)
