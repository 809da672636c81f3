"""Other trunks of the loss lpips, and a study that is told what VGG16 costs before it is there."""

import re
import shlex
import subprocess
import sys

import attrs
import pytest
import torch

import genkit
from genkit import Context, Spec
from genkit.errors import DataError, RecipeError
from genkit.kernel.identity import essence
from genkit.kernel.loading import load_recipe
from genkit.testing import laws
from genkit_lpips.trunk import VGG16
from genkit_metrics import classifier

SPEC = Spec(channels=1, height=8, width=8)
DIGITS = Context(spec=SPEC, dataset=genkit.component("dataset", "digits"), total_steps=10)
TRUNKS = ["classifier", "efficientnet-lite0"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    monkeypatch.setattr(classifier, "STEPS", 20)
    classifier._extractor.cache_clear()
    for name in ("GENKIT_CACHE", "GENKIT_WEIGHTS"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    monkeypatch.setenv("GENKIT_OFFLINE", "1")


def built(trunk):
    return genkit.build(genkit.component("loss", "lpips", trunk=trunk), DIGITS)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_it_is_the_formula_of_the_paper_with_equal_weights(trunk):
    """Written again with torch's own normalisation, on the trunk's features."""
    x, y = torch.rand(2, 4, *SPEC.shape) * 2 - 1
    stages = genkit.build(genkit.component("features", trunk), DIGITS).stages
    ours = sum(
        torch.nn.functional.mse_loss(*(torch.nn.functional.normalize(h, dim=1) for h in pair), reduction="none")
        .sum(1)
        .mean((1, 2))
        for pair in zip(stages(x), stages(y), strict=True)
    )
    assert torch.allclose(built(trunk)(x, y), ours, rtol=1e-4)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_it_obeys_the_laws_of_losses(trunk, monkeypatch):
    monkeypatch.setattr(laws, "context", lambda: DIGITS)
    laws.check(genkit.component("loss", "lpips", trunk=trunk))


def test_stages_end_in_the_features_that_metrics_see():
    extract = genkit.build(genkit.component("features", "classifier"), DIGITS)
    images = torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8)
    stages = extract.stages(images.float() / 127.5 - 1)
    assert [tuple(s.shape[1:]) for s in stages] == [(32, 8, 8), (64, 4, 4), (128, 2, 2)]
    assert torch.allclose(stages[-1].mean((2, 3)), extract(images)["pool"], atol=1e-6)


def test_a_program_neither_trains_nor_saves_the_trunk():
    loss = {"use": "lpips", "trunk": "classifier"}
    program = genkit.build(genkit.component("objective", "consistency", network="mlp", loss=loss), DIGITS)
    assert not [name for name in program.state_dict() if not name.startswith("student.")]


def test_the_default_trunk_leaves_ids_as_they_were_and_another_counts_with_its_revision():
    assert essence(genkit.component("loss", "lpips")) == {"is": "genkit-lab-lpips/lpips@1"}
    other = essence(genkit.component("loss", "lpips", trunk={"use": "classifier", "seed": 1}))
    assert other["trunk"] == {"is": "genkit-lab-metrics/classifier@1", "seed": 1}


def test_settings_of_vgg16_are_refused_beside_another_trunk_and_so_are_features_without_stages():
    with pytest.raises(RecipeError, match="pooling, resize: of the trunk vgg16 alone"):
        genkit.component("loss", "lpips", trunk="classifier", pooling="max", resize=0)
    with pytest.raises(RecipeError, match="the features pixels have no stages"):
        built("pixels")


def test_stand_ins_are_for_what_would_be_downloaded(tmp_path):
    loss, other = genkit.component("loss", "lpips"), genkit.component("loss", "lpips", trunk="classifier")
    assert loss.absent() == VGG16 and other.absent() is None
    random = loss.stand_in(tmp_path)
    assert random.weights.is_file() and random.absent() is None and attrs.evolve(random, weights=None) == loss
    assert other.stand_in(tmp_path) is other
    (tmp_path / "cache" / VGG16.name).parent.mkdir()
    (tmp_path / "cache" / VGG16.name).touch()
    assert loss.absent() is None and loss.stand_in(tmp_path) is loss


def test_what_is_affordable_goes_by_the_labels_that_data_have():
    loss = genkit.component("loss", "lpips")
    assert loss.affordable(DIGITS) == {"trunk": "classifier"}
    assert loss.affordable(attrs.evolve(DIGITS, dataset=genkit.component("dataset", "ring"))) == {
        "trunk": "efficientnet-lite0"
    }
    assert genkit.component("loss", "lpips", trunk="classifier").affordable(DIGITS) is None


def ablate(*words, cwd):
    command = [sys.executable, "-m", "genkit", "ablate", *words, "--device", "cpu"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def test_a_study_of_lpips_says_what_it_costs_and_needs_and_what_it_offers_runs(tmp_path):
    """The quick start made short: nothing is downloaded, nothing runs, and the line ends in a table."""
    few = ["train.steps=400", "train.batch_size=2", "network.model_channels=8", "network.num_blocks=1"]
    few += ["evaluate.samples=20", "metrics.pr=false", "metrics.fd.floor=false", "train.sample_every_steps=0"]
    told = ablate(*few, "--swap", "loss=lpips", cwd=tmp_path)
    said = told.stderr
    assert told.returncode == 4 and not list(tmp_path.glob("runs/*/lock.json")), said
    assert re.search(r"loss=lpips +loss: pseudo-huber -> lpips +todo +1 x \d+:\d\d:\d\d", said), said
    assert re.search(r"about [\d.]+ device hours", said)
    assert "loss=lpips needs vgg16-397923af.pth (553 MB), which is not here: genkit weights fetch vgg16" in said
    line = re.search(r"for less: (genkit ablate ict_digits .*)", said)[1]
    recipe, *words = shlex.split(line)[2:]
    assert words[-1] == 'loss={use="lpips", trunk="classifier"}' and words[: len(few)] == few
    done = ablate(recipe, *words, "train.steps=3", cwd=tmp_path)
    assert done.returncode == 0 and "classifier" in done.stdout.splitlines()[2], done.stderr
    assert "times as long" not in done.stderr and "for less" not in done.stderr


def test_in_python_a_study_says_what_it_lacks_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"arm 'loss=lpips': needs vgg16.*genkit weights fetch vgg16"):
        genkit.ablate("ict_digits", ["loss=lpips"], device="cpu", jobs=1)
    assert not list(tmp_path.glob("runs/*/lock.json"))


def test_the_recipe_of_a_dear_loss_offers_nothing_where_it_was_not_swapped_in(tmp_path):
    from genkit_studies import affordable

    recipe = load_recipe("ict_digits", swaps=["loss=lpips"])
    assert affordable.absent(recipe) == [VGG16]
    standing = affordable.standing_in(recipe.objective, tmp_path)
    assert standing.loss.weights.parent == tmp_path and attrs.evolve(standing, loss=recipe.objective.loss) == (
        recipe.objective
    )
