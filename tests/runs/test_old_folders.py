"""A run folder of format 1, written before the core had rooms, is read as ever, and ids stay what they were."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import genkit
from genkit.cli import main
from genkit.kernel import identity
from genkit.runs import planning, store
from genkit.training import checkpoint

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run-format-1"
RECIPE = [
    "train.steps=40",
    "train.batch_size=16",
    "train.save_every_steps=20",
    "train.log_every_steps=10",
    "network.model_channels=4",
    "network.num_blocks=1",
    "evaluate.samples=300",
]
IDS = {
    "ict_digits": "960db6b1d3",
    "ct_digits": "7fae4125eb",
    "ict_ring": "469a4d0d0a",
    "theory_delta": "9a27a14cb3",
    "edm_digits": "8bc4c656cd",
}


@pytest.fixture
def released(monkeypatch):
    """Ids as of released distributions: without the hash of editable source."""
    monkeypatch.setattr(identity, "_source", lambda distribution: "")


@pytest.fixture
def old(tmp_path):
    return Path(shutil.copytree(FIXTURE, tmp_path / "runs" / "ict_digits-4e6c49d752"))


def say(capsys, *argv):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in argv])
    assert left.value.code in (0, None), capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.usefixtures("released")
@pytest.mark.parametrize("name", IDS)
def test_a_recipe_that_did_not_change_is_the_same_run_as_ever(name):
    assert planning.plan(genkit.load_recipe(name), device="cpu").id == IDS[name]


@pytest.mark.usefixtures("released")
def test_an_old_run_goes_on_to_the_weights_that_it_came_to(old):
    whole, _ = checkpoint.load(FIXTURE / "checkpoints" / "step-0000040")
    shutil.rmtree(old / "checkpoints" / "step-0000040")
    result = genkit.run(genkit.load_recipe("ict_digits", RECIPE), old)
    again, numbers = checkpoint.load(old / "checkpoints" / "step-0000040")
    assert numbers["k"] == 40 and again.keys() == whole.keys()
    assert all(torch.allclose(again[name], tensor, rtol=1e-4, atol=1e-6) for name, tensor in whole.items())
    assert [e["k"] for e in store.events(old) if e["event"] == "resume"] == [20]
    assert result.figures


@pytest.mark.usefixtures("released")
def test_a_finished_old_run_is_reported_and_not_repeated(old):
    before = store.events(old)
    known = json.loads(next((FIXTURE / "evaluations").glob("*.json")).read_text())
    result = genkit.run(genkit.load_recipe("ict_digits", RECIPE), old)
    assert result.evaluation["steps"] == known["steps"] and len(store.events(old)) == len(before)


def test_the_commands_read_an_old_run(old, capsys):
    assert say(capsys, "sample", old, "--count", "4", "--out", "four.png").strip() == "four.png"
    assert "40/40" in say(capsys, "runs", "list")
    assert json.loads(say(capsys, "evaluate", old, "--samples", "64", "--json"))["steps"]["1"]["figures"]
    assert Path(say(capsys, "report", old).strip()).read_text().count("<img ") == 2


@pytest.mark.usefixtures("released")
@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("train.seed=1", "differs in train.seed (default there, 1 here); choose another --out"),
        ("loss.c=0.25", "loss.c ("),
        ("name=other", ""),
    ],
)
def test_a_changed_recipe_is_refused_with_the_keys_that_differ(old, capsys, word, told):
    with pytest.raises(SystemExit) as left:
        main(["run", "ict_digits", *RECIPE, word, "--out", str(old), "--device", "cpu"])
    err = capsys.readouterr().err
    assert (left.value.code in (0, None)) is (not told)
    assert told in err and ("holds another run" in err) is bool(told)
