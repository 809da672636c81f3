"""The recipes that learn real pictures on a laptop: two steps and an evaluation, on small data of their shape."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import genkit
from genkit.data import hdf5, records
from genkit.evaluation import results
from genkit.kernel.loading import load_recipe
from genkit.kinds import Context, Spec

CLOTHES = Path(__file__).parents[2] / "shared" / "data" / "fashion-mnist.h5"
SHORT = ["train.steps=2", "train.sample_every_steps=0", "evaluate.samples=30", "evaluate.steps=[1]"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    """A classifier of five steps, in a cache of the test's own."""
    from genkit_metrics import classifier

    monkeypatch.setattr(classifier, "STEPS", 5)
    monkeypatch.setenv("GENKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def measured(name, *overrides):
    """The figures of a run of two steps, without their number of sampling steps."""
    summary = genkit.run(load_recipe(name, overrides=[*SHORT, *overrides]), device="cpu")
    (file,) = (summary.folder / "evaluations").glob("*.json")
    return {figure.partition("@")[0] for figure in results.figures_of(records.read(file))}


def clothes(images, labels, path):
    arrays = {"train/images": images[:80, None], "train/labels": labels[:80]}
    arrays |= {"held_out/images": images[80:, None], "held_out/labels": labels[80:]}
    hdf5.write(path, arrays, {"classes": list("abcdefghij")})
    return f"dataset.path={path}"


def test_clothes_take_two_steps_and_are_measured_by_a_classifier_of_theirs(tmp_path):
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (120, 28, 28), dtype=np.uint8), np.arange(120) % 10
    found = measured("ict_fashion", "dataset.use=hdf5", clothes(images, labels, tmp_path / "clothes.h5"))
    assert any(figure.startswith("fd.fd-hdf5-") for figure in found), found


@pytest.mark.skipif(not CLOTHES.is_file(), reason="no shared/data/fashion-mnist.h5 beside this checkout")
def test_real_clothes_take_two_steps_too(tmp_path):
    with h5py.File(CLOTHES) as file:
        images, labels = file["train_images"][:120], file["train_labels"][:120].astype(np.int64)
    assert measured("ict_fashion", "dataset.use=hdf5", clothes(images, labels, tmp_path / "clothes.h5"))


def test_photos_of_any_size_take_two_steps_and_copies_are_looked_for(tmp_path):
    draw = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(20):
        pixels = draw.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
    found = measured("ict_photos", f"dataset.path={tmp_path / 'photos'}", "name=holiday")
    assert {"fd.fd", "pr.precision", "pr.recall", "copies.authenticity"} <= found
    assert list(tmp_path.glob("runs/holiday-*"))


def test_their_network_is_small():
    """0.35 M parameters, which is what ten minutes on two cores can train."""
    network = load_recipe("ict_fashion").objective.network
    built = genkit.build(network, Context(spec=Spec(channels=1, height=28, width=28)))
    assert sum(parameter.numel() for parameter in built.parameters()) == 345_185
