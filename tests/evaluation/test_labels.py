"""Labels of samples: as often as in the training data, never of a class without images, a function of the key."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import genkit
from genkit.data import records
from genkit.errors import DataError
from genkit.evaluation import sampling
from genkit.kinds import Context, Spec
from genkit.runs import planning, store

COUNTS = (0, 390, 0, 10)  # labels that begin at 1, a class that was left out, and two of very different sizes
TINY = ["train.steps=4", "train.batch_size=8", "network.model_channels=8", "network.num_blocks=1", "metrics.pr=false"]


class Told(torch.nn.Module):
    """A denoiser that needs nothing but to be asked for labels."""

    def __init__(self, counts=(), classes=4):
        super().__init__()
        self.spec, self.weight = (
            Spec(channels=1, height=1, width=1, classes=classes, counts=counts),
            torch.nn.Parameter(torch.zeros(1)),
        )

    def labels(self, count=sampling.BLOCK, seed=0, label=None, index=0):
        return sampling.conditioning(self, index, count, seed, label)["label"]


@pytest.fixture
def uneven():
    """Words of a recipe whose data have `COUNTS`, with a picture for each class: all its pixels are alike."""
    labels = np.repeat(np.arange(4), COUNTS)
    images = np.random.default_rng(0).integers(0, 256, (400, 8, 8), dtype=np.uint8)
    with h5py.File("uneven.h5", "w") as file:
        file["images"], file["labels"] = images, labels
    data = ["dataset.use=hdf5", "dataset.path=uneven.h5", "dataset.labels=true", "dataset.flip=false"]
    return ["ict_digits", *data, *TINY, "evaluate.samples=300", "evaluate.steps=[1]"]


def test_labels_have_the_datas_shares_and_never_a_class_without_images():
    drawn = torch.cat([Told(COUNTS).labels(index=i) for i in range(40)])
    share = drawn.bincount(minlength=4) / len(drawn)
    assert share[0] == share[2] == 0
    assert abs(share[3] - 10 / 400) < 4 * (0.025 * 0.975 / len(drawn)) ** 0.5  # 4 standard deviations


def test_labels_are_even_over_classes_with_images_where_that_is_asked_for():
    drawn = torch.cat([Told(COUNTS).labels(index=i, label="evenly") for i in range(40)])
    assert drawn.bincount(minlength=4)[[0, 2]].sum() == 0
    assert abs((drawn == 3).float().mean() - 0.5) < 4 * (0.25 / len(drawn)) ** 0.5


def test_without_counts_labels_are_drawn_as_they_ever_were():
    """Numbers of before counts were known: torch's randint over the classes, by the key of (seed, block)."""
    from genkit.keys import Key

    for seed, index in ((0, 0), (3, 2)):
        before = torch.randint(7, (sampling.BLOCK,), generator=Key(seed).generator("label", index))
        assert torch.equal(Told(classes=7).labels(seed=seed, index=index), before)
        assert torch.equal(Told(classes=7).labels(seed=seed, index=index, label="evenly"), before)


def test_a_label_depends_on_its_key_alone():
    whole = Told(COUNTS).labels(seed=5)
    assert torch.equal(Told(COUNTS).labels(count=9, seed=5), whole[:9])
    torch.manual_seed(1)
    assert torch.equal(Told(COUNTS).labels(seed=5), whole) and not torch.equal(Told(COUNTS).labels(seed=6), whole)


@pytest.mark.parametrize(("label", "told"), [(0, "class 0 has no training images"), (4, "4 is no class")])
def test_a_class_that_was_not_trained_is_not_sampled(label, told):
    with pytest.raises(DataError, match=told):
        Told(COUNTS).labels(label=label)


def test_a_plan_knows_the_counts_of_data_in_memory_streamed_and_of_others(uneven):
    def counts(*more):
        return planning.plan(genkit.load_recipe(uneven[0], [*uneven[1:], *more]), device="cpu").context.spec.counts

    assert counts() == counts("dataset.max_gib=0") == COUNTS and counts("dataset.labels=false") == ()
    assert hasattr(planning.plan(genkit.load_recipe(uneven[0], [*uneven[1:], "dataset.max_gib=0"])).data, "ahead")

    class Theirs:
        spec, labels = Spec(channels=1, height=8, width=8, classes=4), torch.tensor([1, 1, 3])

    assert planning._counted(Theirs()).counts == (0, 2, 0, 1)
    del Theirs.labels
    assert planning._counted(Theirs()).counts == ()


def test_a_run_samples_and_evaluates_by_shares_also_without_its_data(call, uneven):
    folder = Path(json.loads(call("run", *uneven, "--json")[0])["folder"])
    assert tuple(records.read(folder / "lock.json")["spec"]["counts"]) == COUNTS
    call("evaluate", folder, "--samples", "300")
    Path("uneven.h5").unlink()
    for words, least, most in (((), 1, 30), (("--label", "evenly"), 100, 200)):
        _, err = call("sample", folder, "--count", "300", "--out", "s.h5", *words)
        with h5py.File("s.h5") as file:
            found = np.bincount(file["train/labels"][:], minlength=4)
        assert found[0] == found[2] == 0 and least <= found[3] <= most and err == ""
    assert "class 0 has no training images" in call("sample", folder, "--label", "0", code=4)[1]
    assert "neither a class nor evenly" in call("sample", folder, "--label", "all", code=2)[1]


def test_evaluations_by_either_rule_are_two_records(call, uneven):
    found = json.loads(call("run", *uneven, "--json")[0])
    (own,) = store.evaluations(Path(found["folder"]))
    assert own["protocol"]["labels"] == "data"
    call("run", *uneven, "evaluate.labels=evenly")
    _, even = sorted(store.evaluations(Path(found["folder"])), key=lambda e: e["protocol"]["labels"])
    assert even["protocol"]["labels"] == "evenly" and even["steps"] != own["steps"]
    assert "labels evenly" in call("evaluate", found["folder"])[0]  # the run's recipe now


def test_an_old_run_is_sampled_evenly_with_a_note_until_its_recipe_is_run_again(call, uneven):
    folder = Path(json.loads(call("run", *uneven, "--json")[0])["folder"])
    lock = records.read(folder / "lock.json")
    old = {**{n: v for n, v in lock.items() if n != "evaluation"}, "spec": {**lock["spec"]}}
    del old["spec"]["counts"]
    (folder / "lock.json").write_text(json.dumps(old))
    for command in (("sample", folder, "--out", "s.h5", "--count", "300"), ("evaluate", folder)):
        assert "labels are drawn evenly: how often each class comes is not on record" in call(*command)[1]
    with h5py.File("s.h5") as file:
        assert np.bincount(file["train/labels"][:], minlength=4).min() > 40
    assert sorted(e["protocol"].get("labels", "") for e in store.evaluations(folder)) == ["", "data"]
    call("run", *uneven)
    assert "evenly" not in call("sample", folder, "--out", "s.h5", "--count", "300")[1]
    assert records.read(folder / "lock.json") == lock


def test_models_without_classes_have_no_say_in_labels():
    data = genkit.build(genkit.component("dataset", "digits"), genkit.Setup())
    program = genkit.build(genkit.load_recipe("ict_digits").objective, Context(spec=data.spec, total_steps=8))
    assert sampling.samples(program.student, 3).cond == {}
    with pytest.raises(DataError, match="the model knows no classes"):
        sampling.samples(program.student, 3, label="evenly")
    assert sampling.unrecorded(program.student) == []
