"""Authenticity and CMMD: the published programs' values on fixed features, definitions, closed cases, laws."""

import math

import numpy as np
import pytest
import torch

import genkit
from genkit.errors import DataError
from genkit.testing import laws
from genkit_metrics import blocks
from genkit_metrics.kid import gaussian_mmd2
from genkit_metrics.manifold import authenticity


def features():
    """200 real rows and 150 others, of which 40 are near copies."""
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((200, 16)), rng.standard_normal((150, 16)) * 0.8 + 0.1
    fake[:40] = real[:40] + 0.05 * fake[:40]
    return real, fake


REAL, FAKE = features()


def test_authenticity_is_that_of_the_published_program():
    """`compute_authpct` of dgm-eval (commit of 2025-03), which gives percent."""
    assert 100 * authenticity(REAL, FAKE) == pytest.approx(34.66666793823242, rel=1e-6)


def test_cmmd_is_that_of_the_published_program():
    """`mmd` of cmmd-pytorch's distance.py, on these features, and on them at norm 1 as CLIP's embeddings are."""
    assert 1000 * gaussian_mmd2(REAL, FAKE) == pytest.approx(2.881785894373934, rel=1e-11)
    real, fake = (torch.nn.functional.normalize(torch.from_numpy(x)) for x in (REAL, FAKE))
    assert 1000 * gaussian_mmd2(real, fake) == pytest.approx(0.2282755107019252, rel=1e-9)


def test_cmmd_of_two_points_on_paper():
    """Points 0 and 0 against 1 and 1: two (1 - exp(-1 / 2 sigma^2)); nothing of a set against itself."""
    x, y = torch.zeros(2, 1), torch.ones(2, 1)
    assert gaussian_mmd2(x, y, sigma=2.0) == pytest.approx(2 * (1 - math.exp(-1 / 8)), rel=1e-14)
    assert gaussian_mmd2(REAL, REAL) == 0


def test_copies_are_none_whatever_rounding_says_and_strangers_are_authentic():
    rows = torch.randint(256, (300, 12)).double() * 1e3 / 7
    assert authenticity(rows, rows[:100]) == 0
    assert authenticity(rows.repeat(2, 1), rows) == 0  # with twins among the data no distance is allowed at all
    assert authenticity(rows, rows[:100] + 1e7) == 1
    assert authenticity(torch.tensor([[0.0], [1.0], [9.0]]), torch.tensor([[0.4], [0.9], [-1.5], [12.0]])) == 0.25


def test_blocks_change_nothing(monkeypatch):
    whole = authenticity(REAL, FAKE), gaussian_mmd2(REAL, FAKE)
    monkeypatch.setattr(blocks, "SIDE", 7)
    assert (authenticity(REAL, FAKE), gaussian_mmd2(REAL, FAKE)) == pytest.approx(whole, rel=1e-12)


def test_far_from_zero():
    assert authenticity(REAL + 1e5, FAKE + 1e5) == authenticity(REAL, FAKE)
    assert gaussian_mmd2(REAL + 1e5, FAKE + 1e5) == pytest.approx(gaussian_mmd2(REAL, FAKE), rel=1e-6)


@pytest.mark.parametrize("name", ["cmmd", "authenticity"])
def test_they_obey_the_laws_of_metrics_and_say_what_held_out_images_score(name):
    component = genkit.component("metric", name, features="pixels")
    laws.check(component)
    real, held_out = torch.from_numpy(REAL), torch.from_numpy(FAKE)
    assert component.floor(real, held_out, 50) == component.measure(real, held_out)
    assert component.floor(real, held_out[:0], 50) == {}


@pytest.mark.parametrize("figure", [authenticity, gaussian_mmd2])
def test_refuses_in_one_line(figure):
    with pytest.raises(DataError, match="1 real samples"):
        figure(REAL[:1], FAKE)
    with pytest.raises(DataError, match="3 generated features, 16 real ones"):
        figure(REAL, FAKE[:, :3])
    with pytest.raises(DataError, match="NaN or infinite"):
        figure(REAL, FAKE * math.nan)
