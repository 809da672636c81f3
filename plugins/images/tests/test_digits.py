"""Claims about the embedded digits."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from genkit.data import prepare
from genkit.keys import Key
from genkit.kinds import Setup
from genkit_images.digits import FILE, Digits


def rows(data) -> set[bytes]:
    return {image.numpy().tobytes() for image in data.x}


def test_digits_are_1797_images_of_which_180_are_held_out():
    data = Digits().build(Setup())
    assert (len(data), len(data.held_out)) == (1617, 180)
    assert data.spec.shape == (1, 8, 8)
    assert data.spec.classes == 0
    assert not data.spec.flip


def test_held_out_digits_are_never_trained_on():
    data = Digits().build(Setup())
    assert len(rows(data.held_out)) == 180
    assert not rows(data) & rows(data.held_out)


def test_held_out_digits_are_18_of_each_class():
    data = Digits(labels=True).build(Setup())
    assert data.held_out.cond["label"].bincount().tolist() == [18] * 10


def test_labels_are_conditioning_only_when_asked_for():
    everything = torch.arange(5)
    assert Digits().build(Setup()).batch(everything, Key(0)).cond == {}
    data = Digits(labels=True).build(Setup())
    assert data.spec.classes == 10
    label = data.batch(everything, Key(0)).cond["label"]
    assert label.dtype == torch.int64
    assert label.shape == (5,)


def test_labels_belong_to_their_images():
    """A nearest-mean classifier fitted to the training part names nine of ten held-out images."""
    data = Digits(labels=True).build(Setup())
    means = torch.stack([data.x[data.cond["label"] == c].float().mean(0) for c in range(10)]).flatten(1)
    guess = torch.cdist(data.held_out.x.float().flatten(1), means).argmin(1)
    assert (guess == data.held_out.cond["label"]).float().mean() > 0.85


def test_digits_use_the_whole_range_of_grey_levels():
    data = Digits().build(Setup())
    levels = data.x.unique().tolist()
    assert levels == [int(np.rint(v * 255 / 16)) for v in range(17)]
    x = prepare(data.batch(torch.arange(len(data)), Key(0)), data.spec, Key(0)).x
    assert (x.min().item(), x.max().item()) == (-1, 1)


def test_decoding_gives_the_digits_back():
    data = Digits().build(Setup())
    batch = data.batch(torch.arange(100), Key(0))
    assert torch.equal(data.decode(prepare(batch, data.spec, Key(0)).x), batch.x)


def test_labels_belong_to_the_identity_only_when_used():
    plain, labelled = Digits().build(Setup()), Digits(labels=True).build(Setup())
    assert plain.identity != labelled.identity
    assert plain.identity == Digits().build(Setup(seed=1)).identity


def test_the_identity_of_the_digits_is_that_of_all_runs_so_far():
    """Another identity, by whatever change to hashing or file, would make every finished run a stranger."""
    assert Digits().build(Setup()).identity == "498d2e6ef8bb37ed"


def test_the_file_says_where_it_is_from_and_under_which_licence():
    with h5py.File(FILE) as file:
        assert "CC BY 4.0" in file.attrs["licence"]
        assert "uci" in file.attrs["source"].lower()
        assert "Kaynak" in file.attrs["citation"]
        assert len(file.attrs["classes"]) == 10
        assert all(file[f"{part}/images"].fletcher32 for part in ("train", "held_out"))
    assert "CC BY 4.0" in FILE.with_name("DATA.md").read_text()


def test_the_script_still_makes_the_file_that_is_shipped():
    pytest.importorskip("sklearn", reason="scikit-learn, the source of the digits, is not installed")
    script = Path(__file__).parents[1] / "tools" / "pack_digits.py"
    spec = importlib.util.spec_from_file_location("pack_digits", script)
    pack_digits = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack_digits)
    with h5py.File(FILE) as file:
        for key, values in pack_digits.arrays().items():
            assert np.array_equal(file[key], values)
