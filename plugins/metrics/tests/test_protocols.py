"""Claims about published protocols: what each does to a pixel."""

import pytest
import torch

import genkit

LEVELS = torch.arange(256, dtype=torch.float32)


def quantised(name, x0):
    return genkit.component("protocol", name).quantise(x0.reshape(1, 1, 1, -1)).flatten().float()


@pytest.mark.parametrize("name", ["edm-fid", "cm-cifar10", "adm-imagenet64"])
def test_the_ends_stay(name):
    x0 = torch.tensor([-3.0, -1.0, 1.0, 3.0])
    assert quantised(name, x0).tolist() == [0, 0, 255, 255]


def test_edm_rounds_to_nearest_and_gives_every_level_back():
    assert torch.equal(quantised("edm-fid", LEVELS / 127.5 - 1), LEVELS)
    tenths = (LEVELS[:255] + 0.4) / 127.5 - 1, (LEVELS[:255] + 0.6) / 127.5 - 1
    assert torch.equal(quantised("edm-fid", tenths[0]), LEVELS[:255])
    assert torch.equal(quantised("edm-fid", tenths[1]), LEVELS[:255] + 1)


@pytest.mark.parametrize("name", ["cm-cifar10", "adm-imagenet64"])
def test_the_others_drop_the_fraction(name):
    assert torch.equal(quantised(name, (LEVELS[:255] + 0.9) / 127.5 - 1), LEVELS[:255])
    x0 = torch.rand(100_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    darker = quantised("edm-fid", x0) - quantised(name, x0)
    assert set(darker.tolist()) == {0.0, 1.0} and darker.mean().item() == pytest.approx(0.5, abs=0.01)
