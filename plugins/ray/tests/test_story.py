"""A study on a Ray cluster where all goes wrong ends with the bits of the local pool."""

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from genkit_ray.rest import call

RING = [
    "ict_ring", "network.width=16", "train.steps=4000", "train.batch_size=16", "train.save_every_steps=500",
    "evaluate.samples=100", "--swap", "loss=l2,l1,linf", "--seeds", "2", "--device", "cpu", "--yes",
]  # fmt: skip
COMMAND = [sys.executable, "-m", "genkit", "ablate", *RING]
RAY = [*COMMAND, "--launcher", "ray"]


def begun(words):
    with Path("log").open("a") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})


def told(event):
    """The events of this name of all runs of trials, and of the study's ledger, in their folders' order."""
    lines = [line for path in sorted(Path("runs").rglob("events.jsonl")) for line in path.read_text().splitlines()]
    return [found for found in map(json.loads, lines) if found["event"] == event]


def finals():
    """Every number of the last checkpoint and the figures of each trial."""
    found = {}
    for lock in Path("runs").glob("*/lock.json"):
        newest = max(lock.parent.glob("checkpoints/step-*"))
        lines = map(json.loads, (lock.parent / "events.jsonl").read_text().splitlines())
        figures = [line["figures"] for line in lines if line["event"] == "evaluated"][-1]
        found[lock.parent.name] = newest.name, (newest / "state.safetensors").read_bytes(), figures
    return found


def log():
    return Path("log").read_text()


def steps(count):
    return len(told("step")) >= count


def running(cluster):
    return [name for name, status in cluster.jobs().items() if status == "RUNNING"]


def test_a_study_of_eight_trials_survives_its_submitter_its_preemptions_and_its_controller(cluster):
    done = begun([*COMMAND, "--jobs", "2"])
    assert done.wait() == 0, log()
    local = finals()
    shutil.rmtree("runs")

    for count in (1, 3):  # the submitter is killed as the first trials run, and again
        submitter = begun(RAY)
        assert cluster.within(120, partial(steps, count)), log()
        submitter.kill()
        assert submitter.wait() == -signal.SIGKILL
    last = begun(RAY)
    assert cluster.within(60, partial(running, cluster))
    for one in running(cluster):  # it is told, saves, and is submitted again
        call(cluster.address, f"/api/jobs/{one}/stop", {})
    assert cluster.within(120, lambda: told("resume")), log()
    cluster.end()  # with it all that it knew, and its jobs
    assert cluster.start() == ""
    assert cluster.within(180, lambda: last.poll() is not None), log()
    assert last.returncode == 0, log()

    ours = finals()
    assert ours.keys() == local.keys() and len(ours) == 8
    assert [name for name in ours if ours[name] != local[name]] == []
    assert len(told("start")) == 8  # each was begun once,
    assert told("resume")  # and those that were preempted have gone on
    assert not {"PENDING", "RUNNING"} & {*cluster.jobs().values()}
