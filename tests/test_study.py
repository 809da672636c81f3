"""Studies: what is compared, how it is kept, and how it is run."""

import json
from pathlib import Path

import attrs
import pytest

from genkit import study
from genkit.errors import DataError
from genkit.recipe import load_recipe
from genkit.study import Arm, Study, Trial


@pytest.fixture
def small():
    """A study of two arms and two seeds, one trial of which is done."""
    arms = (
        Arm(label="baseline", recipe=load_recipe("ict_ring")),
        Arm(label="l2", changes=("loss: pseudo-huber -> l2",), recipe=load_recipe("ict_ring", swaps=["loss=l2"])),
    )
    trials = tuple(
        Trial(arm=arm.label, seed=seed, folder=Path("runs", f"ict_ring-{i}{seed}"), id=f"{i}{seed}")
        for i, arm in enumerate(arms)
        for seed in (0, 1)
    )
    done = attrs.evolve(trials[0], state="done", figures={"fd.fd@1": 0.5}, seconds=2.5)
    return Study(
        name="small", id="0123456789", folder=Path("runs/studies/small-0123456789"), design="one-at-a-time",
        metric="fd.fd@1", arms=arms, seeds=(0, 1), trials=(done, *trials[1:]),
    )  # fmt: skip


def test_a_study_is_read_as_it_was_written(small):
    study.save(small)
    assert study.load(small.folder) == small
    for name in ("small", "latest", "0123", small.folder):
        assert study.find(name) == small.folder
    assert [trial.seed for trial in small.of(small.arms[1])] == [0, 1]


@pytest.mark.parametrize("text", ["[]", "{", '{"format": 1}', '{"arms": [{"label": 3}]}'])
def test_a_damaged_study_is_a_line(small, text):
    study.save(small)
    Path(small.folder, "study.json").write_text(text)
    with pytest.raises(Exception) as told:
        study.load(small.folder)
    assert "study.json" in str(told.value) and "\n" not in str(told.value)


def test_a_study_that_is_not_there_is_a_line_with_those_that_are(small):
    study.save(small)
    with pytest.raises(DataError, match="small-0123456789"):
        study.find("smal")
    whole = json.loads(Path(small.folder, "study.json").read_text())
    assert whole["trials"][0]["folder"] == "ict_ring-00"  # from the runs root: the whole can be moved
