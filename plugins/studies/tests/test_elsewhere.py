"""`genkit run … --launcher`: a run as a job, submitted once and left."""

import json
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from genkit.runs import store
from genkit.testing import present, provide
from genkit_studies.elsewhere import _job, _without_ours

WORDS = ["run", "ict_ring", "train.steps=24", "train.batch_size=16", "evaluate.samples=100", "--device", "cpu"]


PROBES = Path(__file__).parents[3] / "tests" / "probes"


@pytest.fixture
def run(call, monkeypatch, tmp_path):
    """`run("--launcher", "cluster")`: what the command says."""
    with present(PROBES, provide(tmp_path / "site", "cluster", "probe_cluster")):
        yield partial(_run, call, monkeypatch)


def _run(call, monkeypatch, *where, code=0):
    monkeypatch.setattr(sys, "argv", ["genkit", *WORDS, *where])
    return call(*WORDS, *where, code=code)


def ended():
    while not list(Path("cluster").glob("*/code")):
        time.sleep(0.05)


def test_a_run_is_submitted_once_and_again_once_it_has_ended(run):
    first, again = (run("--launcher", "cluster")[0].splitlines()[0] for _ in range(2))
    assert first.split(":")[0] == again.split(":")[0] and "there already" in again
    ended()
    (found,) = store.runs()
    assert found.state == "done"
    assert "there already" not in run("--launcher", "cluster")[0]
    asked = [json.loads(path.read_text()) for path in Path("cluster").glob("*/job.json")]
    assert [job["argv"] for job in asked] == [WORDS, WORDS]


def test_a_mistake_in_the_recipe_is_told_before_anything_is_submitted(run):
    _, told = run("--launcher", "cluster", "train.stps=3", code=2)
    assert "train.stps" in told and not Path("cluster").exists()


def test_a_dry_run_submits_nothing(run):
    assert "parameters" in run("--launcher", "cluster", "--dry-run")[0] and not Path("cluster").exists()


def test_what_cannot_be_submitted_is_told(run):
    for where, told in (
        (["--launcher", "local"], "local is this machine"),
        (["--nodes", "2"], "local is this machine"),
        (["--nodes", "2", "--launcher", "cluster"], "no jobs of 2 nodes"),
        (["--fresh", "--launcher", "cluster"], "begin anew"),
    ):
        assert told in run(*where, code=2)[1]


@pytest.mark.parametrize(
    ("nodes", "gpus", "device", "words", "needs"),
    [
        (1, 1, None, [], (1, 1, 1, 1)),
        (1, 8, None, ["--gpus", "8"], (8, 8, 1, 1)),
        (2, 8, None, [], (8, 1, 2, 8)),
        (2, 4, "cpu", [], (0, 1, 2, 4)),
    ],
)
def test_a_job_has_the_cards_of_a_node_and_processes_of_its_own_on_several(nodes, gpus, device, words, needs):
    _, job = _job(nodes, gpus, device, ["run", "a.toml"])
    assert job.argv == ("run", "a.toml", *words)
    assert (job.cards, job.cpus, job.nodes, job.processes) == needs


def test_a_job_is_not_told_where_it_runs():
    words = ["run", "a.toml", "--nodes", "2", "--launcher=slurm", "--gpus=8", "--launcher", "ray", "x=1"]
    assert _without_ours(words) == ["run", "a.toml", "x=1"]
