"""Jobs of a SLURM cluster of one machine, which the tests start on loopback and end by process id."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import genkit
from genkit.errors import GenkitError
from genkit.testing import laws
from genkit_slurm.launcher import _how
from genkit_slurm.script import script


@pytest.fixture
def launcher(cluster):
    return genkit.build(genkit.component("launcher", "slurm", gpus=0, command="sh"), genkit.Setup())


NEEDS = {"cards": 0, "cpus": 1, "tryout": False, "nodes": 1, "processes": 1}


def job(tmp_path, text, **needs):
    """A job whose command is a shell."""
    return SimpleNamespace(argv=("-c", text), log=tmp_path / "log", **{**NEEDS, **needs})


def ends(launcher, handles):
    while {"waits", "runs"} & set((found := launcher.poll(handles)).values()):
        time.sleep(0.2)
    return [found.get(handle, "gone") for handle in handles]


def test_the_launcher_obeys_its_laws(cluster):
    laws.check(genkit.component("launcher", "slurm", gpus=0))


def test_jobs_are_tasks_of_an_array_and_end_with_their_exit_codes(launcher, tmp_path):
    jobs = [job(tmp_path, f'echo task {i} "it\'s"; exit {code}') for i, code in enumerate((0, 75, 3))]
    handles = launcher.submit("genkit-codes", jobs)
    assert len({handle.partition("_")[0] for handle in handles}) == 1
    assert launcher.submit("genkit-codes", jobs) == handles  # the same name is a question
    assert ends(launcher, handles) == [0, 75, 3]
    assert sorted((tmp_path / "log").read_text().splitlines()) == [f"task {i} it's" for i in range(3)]


def test_a_job_that_is_cancelled_hears_sigterm_itself_and_one_that_waits_is_not_begun(launcher, tmp_path):
    listening = f"trap 'exit 75' TERM; touch {tmp_path}/begun; while :; do sleep 0.1; done"
    handles = launcher.submit("genkit-cancel", [job(tmp_path, listening, cpus=2), job(tmp_path, "exit 0", cpus=2)])
    while not (tmp_path / "begun").is_file():
        time.sleep(0.1)
    launcher.cancel(handles)
    assert ends(launcher, handles) == [75, 75]


def test_what_slurm_refuses_is_final_and_what_it_has_forgotten_is_gone(launcher, tmp_path):
    wrong = genkit.build(genkit.component("launcher", "slurm", partition="nowhere", gpus=0), genkit.Setup())
    with pytest.raises(GenkitError, match="partition"):
        wrong.submit("genkit-wrong", [job(tmp_path, "exit 0")])
    assert launcher.poll(["987654_0"]) == {}


def test_a_study_whose_submitter_is_killed_ends_with_each_trial_run_once(cluster, tmp_path):
    few = ["train.steps=20", "train.batch_size=16", "evaluate.samples=100", "--swap", "loss=l2", "--device", "cpu"]
    command = [sys.executable, "-m", "genkit", "ablate", "ict_ring", *few, "--launcher", "slurm", "--yes"]
    with Path("log").open("w") as log:
        first = subprocess.Popen(command, stdout=log, stderr=log)
        while first.poll() is None and not list(Path("runs").glob("studies/*/tryouts/*.json")):
            time.sleep(0.1)
        first.kill()
        assert first.wait() == -signal.SIGKILL, Path("log").read_text()
        done = subprocess.run(command, stdout=log, stderr=log, check=False)
    assert done.returncode == 0, Path("log").read_text()
    told = [(path.parent / "events.jsonl").read_text() for path in Path("runs").glob("*/lock.json")]
    assert [text.count('"event": "start"') for text in told] == [1, 1]
    assert not subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout


def test_processes_of_two_nodes_run_as_one_and_save_when_they_are_told(cluster):
    """The nodes are daemons of this machine; where SLURM was built without several of them, there are none."""
    asked = ["sinfo", "-h", "-p", "two", "-t", "idle", "-o", "%D"]
    if not cluster.within(10, lambda: cluster.said(*asked).strip() == "2"):
        pytest.skip("this SLURM has one daemon a machine")
    steps = ["train.steps=3000", "train.save_every_steps=3000", "train.log_every_steps=10", "train.batch_size=16"]
    words = ["ict_ring", *steps, "evaluate.samples=100", "--device", "cpu"]
    words += ["--nodes", "2", "--launcher", "slurm={partition='two'}"]
    begun, again = (cluster.said(sys.executable, "-m", "genkit", "run", *words) for _ in range(2))
    job = begun.split()[1].rstrip(":")
    assert f"job {job}: there already" in again

    def told(event):
        lines = [line for path in Path("runs").glob("*-*/events.jsonl") for line in path.read_text().splitlines()]
        return [found for found in map(json.loads, lines) if found["event"] == event]

    (log,) = Path("runs/jobs").glob("*/log.txt")
    assert cluster.within(60, lambda: told("step")), log.read_text()
    made = genkit.build(genkit.component("launcher", "slurm"), genkit.Setup())
    made.cancel([job])
    assert ends(made, [job]) == [75], log.read_text()
    (end,) = told("end")
    assert end["outcome"] == "preempted" and 0 < end["k"] < 3000
    cluster.said(sys.executable, "-m", "genkit", "run", *words)
    assert cluster.within(120, lambda: told("end")[1:]), log.read_text()
    assert told("end")[1]["outcome"] == "done" and told("resume")[0]["k"] == end["k"], log.read_text()
    (lock,) = Path("runs").glob("*/lock.json")
    assert json.loads(lock.read_text())["world_size"] == 2


def test_a_machine_of_no_cluster_is_told_at_once(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    told = (
        "squeue: error: fetch_config: DNS SRV lookup failed\\nsqueue: fatal: Could not establish a configuration source"
    )
    (tmp_path / "bin" / "squeue").write_text(f"#!/bin/sh\nprintf '{told}' >&2\nexit 1\n")
    (tmp_path / "bin" / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    made = genkit.build(genkit.component("launcher", "slurm"), genkit.Setup())
    with pytest.raises(GenkitError, match=r"squeue finds no configuration of a cluster here; .*SLURM_CONF"):
        made.submit("genkit-nowhere", [job(tmp_path, "exit 0")])


@pytest.mark.parametrize(
    ("state", "code", "how"),
    [
        ("PENDING", "0:0", "waits"), ("COMPLETING", "0:0", "runs"), ("COMPLETED", "0:0", 0), ("FAILED", "5:0", 5),
        ("FAILED", "19200", 75), ("CANCELLED", "15", -15), ("FAILED", "0:9", -9), ("CANCELLED", "0:0", 75),
        ("CANCELLED", "0:15", -15), ("NODE_FAIL", "0:0", 75), ("TIMEOUT", "0:0", 75), ("OUT_OF_MEMORY", "0:125", -9),
    ],
)  # fmt: skip
def test_states_of_slurm_mean_what_a_study_asks(state, code, how):
    assert _how(state, code) == how


def test_the_script_becomes_its_job_and_keeps_words_whole(tmp_path):
    jobs = [job(tmp_path, "echo a", cards=1)]
    jobs[0].argv = ("run", "a b", "it's", "$HOME")
    text = script(jobs, ["module() { :; }", "module load cuda"], "printf '%s\\n'")
    (tmp_path / "script").write_text(text)
    subprocess.run(["bash", tmp_path / "script"], env={**os.environ, "SLURM_ARRAY_TASK_ID": "0"}, check=True)
    assert Path(tmp_path, "log").read_text().splitlines() == ["run", "a b", "it's", "$HOME"]
