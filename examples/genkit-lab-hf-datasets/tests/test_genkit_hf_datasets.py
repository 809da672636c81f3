"""A data set of a folder keeps the laws, is the same from anywhere, and is learnt."""

import shutil
from pathlib import Path

import pytest
import torch

import genkit
from genkit.errors import DataError

DIGITS = str(Path(__file__).parent / "digits")


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("GENKIT_CACHE", str(tmp_path / "cache"))


@pytest.mark.genkit("genkit-lab-hf-datasets", settings={"hf-datasets": {"name": DIGITS, "label": "label"}})
def test_it_keeps_the_law(genkit_law):
    genkit_law()


def built(cache, name=DIGITS, **settings):
    return genkit.build(
        genkit.component("dataset", "hf-datasets", name=str(name), **settings), genkit.Setup(cache_dir=cache)
    )


def test_images_labels_and_what_is_held_out_are_those_of_the_files(tmp_path):
    data = built(tmp_path, label="label")
    assert (len(data), len(data.held_out), data.spec.shape, data.spec.classes) == (64, 16, (1, 8, 8), 10)
    batch = data.batch(torch.arange(64), genkit.Key(0))
    assert batch.x.dtype == torch.uint8 and batch.cond["label"].tolist() == [i % 10 for i in range(64)]
    assert built(tmp_path, held_out="").held_out is None


def test_the_same_content_elsewhere_is_the_same_data(tmp_path):
    elsewhere = shutil.copytree(DIGITS, tmp_path / "elsewhere")
    assert built(tmp_path, elsewhere).identity == built(tmp_path).identity
    assert built(tmp_path, label="label").identity != built(tmp_path).identity


def test_a_split_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DataError, match="valid"):
        built(tmp_path, train="valid")


def test_its_recipe_trains(tiny_run):
    assert tiny_run("hf_mnist", f"dataset.name={DIGITS}", "metrics.pr=false").figures
