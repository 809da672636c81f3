"""What was measured otherwise is a record of its own, told apart by its words; a run is listed by its own protocol."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from genkit.data import records
from genkit.evaluation import results
from genkit.runs import store

TINY = ["train.steps=4", "train.batch_size=8", "network.model_channels=8", "network.num_blocks=1", "metrics.pr=false"]
WORDS = [
    "ict_digits",
    "dataset.use=hdf5",
    "dataset.path=images.h5",
    *TINY,
    "evaluate.samples=300",
    "evaluate.steps=[1]",
]


def write_images(seed):
    with h5py.File("images.h5", "w") as file:
        file["images"] = np.random.default_rng(seed).integers(0, 256, (300, 8, 8), dtype=np.uint8)


@pytest.fixture
def folder(call):
    write_images(0)
    return Path(json.loads(call("run", *WORDS, "--json")[0])["folder"])


def files(folder):
    return {path.name: path.read_bytes() for path in (folder / "evaluations").iterdir()}


def test_figures_against_other_data_are_told_and_replace_nothing(call, folder):
    before, trained_on = files(folder), records.read(folder / "lock.json")["data"]
    assert "was trained on" not in call("evaluate", folder)[1]
    before |= files(folder)
    write_images(1)
    out, err = call("evaluate", folder)
    assert f"{folder.name} was trained on data {trained_on}, and these are " in err
    after = files(folder)
    (new,) = after.keys() - before.keys()
    assert {name: after[name] for name in before} == before
    other = json.loads(after[new])["protocol"]["data"]
    assert other != trained_on and other in out and f"-on-{other[:8]}" in new
    own, apart = store.evaluations(folder)
    assert (own["apart"], apart["apart"]) == ("", f"data {other}")
    assert store.summary(folder).figures["1"] == own["steps"]["1"]["figures"]
    assert f"(data {other})" in call("runs", "show", folder)[0]
    assert f"– data {other}" in (folder / "report.html").read_text()
    assert "was trained on" in call("search-steps", folder, "--samples", "300", "--points", "3")[1]
    assert files(folder) == after


def test_other_weights_and_samples_are_records_of_their_own(call, folder):
    before = files(folder)
    call("evaluate", folder, "--weights", "raw")
    call("evaluate", folder, "--samples", "400", "--seeds", "2")
    after = files(folder)
    assert len(after) == 3 and {name: after[name] for name in before} == before
    assert [e["apart"] for e in store.evaluations(folder)] == ["", "samples 400, seeds [0, 1]", "weights raw"]
    shown = call("runs", "show", folder)[0]
    assert "(weights raw)" in shown and "(samples 400, seeds [0, 1])" in shown


def test_a_run_is_listed_by_its_recipes_own_protocol(call, folder):
    own = store.summary(folder)
    call("evaluate", folder, "--samples", "2000")  # more of them do not make it the run's
    assert store.summary(folder) == own and "(" not in call("runs", "list")[0]
    call("run", *WORDS, "evaluate.samples=350")  # what its recipe asks for now
    assert store.summary(folder).figures != own.figures
    (folder / "evaluations" / f"{records.read(folder / 'lock.json')['evaluation']}.json").unlink()
    assert "(weights ema, samples 2000)" in call("runs", "list")[0]  # all that is left, and it is told


def test_a_checkpoint_before_the_last_is_told_by_its_step(call):
    write_images(0)
    more = ["train.save_every_steps=2", "evaluate.every_steps=2"]
    folder = Path(json.loads(call("run", *WORDS, *more, "--json")[0])["folder"])
    call("evaluate", folder, "--checkpoint", "2")
    assert [e["apart"] for e in store.evaluations(folder)] == ["", "k 2"]


def test_words_name_what_differs_and_nothing_else():
    own = {
        "k": 4,
        "protocol": {"name": "a", "weights": "ema", "samples": 3, "levels": {"rho": 7}, "features": {"fd": "p"}},
    }
    assert results.apart(own, own) == ""
    protocol = {**own["protocol"], "name": "b", "samples": 5, "levels": {"rho": 3}, "features": {"fd": "q"}}
    assert results.apart({**own, "protocol": protocol}, own) == "samples 5, other levels"
    assert results.apart(own, {}) == "weights ema, samples 3"
