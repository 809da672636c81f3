"""Claims about the classifier's features: what it learns, how it is named, that it is trained once."""

from __future__ import annotations

import re

import attrs
import pytest
import torch

import genkit
from genkit.errors import DataError
from genkit.kernel import registry
from genkit.keys import Key
from genkit.kinds import Context, Setup, Spec
from genkit.testing import laws
from genkit_metrics import classifier
from genkit_metrics.classifier import Classifier

DIGITS = genkit.component("dataset", "digits")
CONTEXT = Context(spec=Spec(channels=1, height=8, width=8), dataset=DIGITS)


@pytest.fixture(autouse=True)
def _forgotten():
    classifier._extractor.cache_clear()


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(classifier, "STEPS", 5)


def test_it_knows_digits_that_it_never_saw():
    """It learns the labels of data that are themselves learnt without."""
    extract = Classifier().build(CONTEXT)
    digits = registry.build(attrs.evolve(DIGITS, labels=True), Setup())
    images, cond = digits.held_out.batch(torch.arange(180), Key(0))
    found = extract(images)
    assert found["pool"].shape == (180, 128) and found["logits"].shape == (180, 10)
    assert float((found["logits"].argmax(1) == cond["label"]).double().mean()) > 0.95
    assert torch.linalg.matrix_rank(torch.cov(found["pool"].double().T)) > 100


def test_the_same_wherever_it_is_trained(short):
    """And nobody else's draws are disturbed."""
    before = torch.get_rng_state()
    one = Classifier().build(CONTEXT)
    torch.manual_seed(5)
    classifier._extractor.cache_clear()
    two = Classifier().build(attrs.evolve(CONTEXT, seed=3))
    assert one.identity == two.identity and one.label == two.label
    assert Classifier(seed=1).build(CONTEXT).identity != one.identity
    torch.set_rng_state(before)
    Classifier(seed=2).build(CONTEXT)
    assert torch.equal(torch.get_rng_state(), before)


def test_its_name_is_that_of_data_and_recipe(short, monkeypatch):
    names = [Classifier().label(CONTEXT), Classifier(seed=1).label(CONTEXT)]
    monkeypatch.setattr(classifier, "RATE", 1e-3)
    classifier._extractor.cache_clear()
    names.append(Classifier().label(CONTEXT))
    monkeypatch.setattr(Classifier, "revision", 2)
    classifier._extractor.cache_clear()
    names.append(Classifier().label(CONTEXT))
    assert len(set(names)) == 4 and all(re.fullmatch(r"digits-[0-9a-f]{8}", name) for name in names)
    labelled = attrs.evolve(CONTEXT, dataset=attrs.evolve(DIGITS, labels=True))
    assert Classifier().label(labelled) == names[-1]


def test_it_is_trained_once(short, monkeypatch, tmp_path, capsys):
    context = attrs.evolve(CONTEXT, cache_dir=tmp_path)
    first = Classifier().build(context)
    (path,) = tmp_path.glob("classifiers/*")
    assert path.name == f"{first.label}.safetensors" and "training the classifier" in capsys.readouterr().err
    classifier._extractor.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(classifier, "_train", lambda *given: pytest.fail("trained again"))
        assert Classifier().build(context).identity == first.identity
    for damaged in (b"", path.read_bytes()[:-300], b"not a file of weights"):
        classifier._extractor.cache_clear()
        path.write_bytes(damaged)
        assert Classifier().build(context).identity == first.identity
    assert path.stat().st_size > 100_000


@pytest.mark.parametrize(
    ("dataset", "said"), [(None, "there is no data set"), (genkit.component("dataset", "ring"), "ring has no images")]
)
def test_refuses_data_without_labels_in_one_line(dataset, said):
    with pytest.raises(DataError, match=said) as refused:
        Classifier().require(attrs.evolve(CONTEXT, dataset=dataset))
    assert "\n" not in str(refused.value) and refused.value.hint


def test_refuses_images_of_another_size(short):
    extract = Classifier().build(CONTEXT)
    with pytest.raises(DataError, match="images are 1x9x8, the data are 1x8x8"):
        extract(torch.zeros(2, 1, 9, 8, dtype=torch.uint8))
    with pytest.raises(DataError, match=r"images are torch\.float32"):
        extract(torch.zeros(2, 1, 8, 8))


def test_laws(short, monkeypatch):
    monkeypatch.setattr(laws, "context", lambda: CONTEXT)
    laws.check(Classifier())


def test_a_run_measured_by_it(short, monkeypatch, tmp_path):
    """Every figure says which classifier it is of; one pass serves all metrics, whose floors stand beside."""
    monkeypatch.setenv("GENKIT_CACHE", str(tmp_path / "cache"))
    tables = {"fd": "fd", "pr": "precision-recall", "dc": "density-coverage", "is": "inception-score"}
    metrics = [f"metrics.{t}={{use='{use}', features={{use='classifier'}}}}" for t, use in tables.items()]
    small = ["network.model_channels=8", "network.num_blocks=1", "evaluate.samples=200", "evaluate.steps=[1]"]
    train = ["train.steps=2", "train.batch_size=8", "train.sample_every_steps=0"]
    done = genkit.run(genkit.load_recipe("ict_digits", [*metrics, *small, *train]), tmp_path / "run")
    (path,) = (tmp_path / "cache" / "classifiers").glob("*.safetensors")
    names = {name.partition("@")[0].partition(".")[2].replace(path.stem, "*") for name in done.figures}
    with_floors = ("fd", "precision", "recall", "density", "coverage", "is")
    assert names == {f"{n}-*{end}" for n in with_floors for end in ("", "_floor")} | {
        "fd-*_held_out",
        "fd-*_held_out_floor",
    }
