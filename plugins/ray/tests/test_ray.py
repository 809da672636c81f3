"""Jobs of a Ray cluster of one machine, which the tests start on loopback and end by its process id."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

import genkit
from genkit.errors import GenkitError
from genkit.testing import laws
from genkit_ray.launcher import _how


def built(**settings):
    return genkit.build(genkit.component("launcher", "ray", gpus=0.0, **settings), genkit.Setup())


@pytest.fixture
def launcher(cluster):
    return built(command="sh")


NEEDS = {"cards": 0, "cpus": 1, "tryout": False, "nodes": 1, "processes": 1}


def job(tmp_path, text, **needs):
    """A job whose command is a shell."""
    return SimpleNamespace(argv=("-c", text), log=tmp_path / "log", **{**NEEDS, **needs})


def ends(launcher, handles):
    while {"waits", "runs"} & set((found := launcher.poll(handles)).values()):
        time.sleep(0.2)
    return [found.get(handle, "gone") for handle in handles]


def test_the_launcher_obeys_its_laws(cluster):
    laws.check(genkit.component("launcher", "ray", gpus=0.0))


def test_jobs_end_with_their_exit_codes_and_the_same_name_is_a_question(launcher, tmp_path):
    jobs = [job(tmp_path, f'echo job {i} "it\'s" $GENKIT_ANY; exit {code}') for i, code in enumerate((0, 75, 3))]
    handles = launcher.submit("genkit-codes", jobs)
    assert launcher.submit("genkit-codes", jobs) == handles
    assert ends(launcher, handles) == [0, 75, 3]
    assert sorted((tmp_path / "log").read_text().splitlines()) == [f"job {i} it's" for i in range(3)]


def test_a_job_knows_the_folder_and_what_was_set_for_genkit(launcher, tmp_path, monkeypatch):
    monkeypatch.setenv("GENKIT_ANY", "word")
    assert ends(launcher, launcher.submit("genkit-there", [job(tmp_path, "pwd; echo $GENKIT_ANY")])) == [0]
    assert (tmp_path / "log").read_text().split() == [str(tmp_path), "word"]


def test_a_job_that_is_cancelled_hears_sigterm_and_one_that_waits_as_soon_as_it_begins(launcher, tmp_path):
    listening = f"trap 'echo told; exit 75' TERM; touch {tmp_path}/begun; while :; do sleep 0.1; done"
    waiting = job(tmp_path, f"sleep 20; touch {tmp_path}/second", cpus=2)
    handles = launcher.submit("genkit-cancel", [job(tmp_path, listening, cpus=2), waiting])
    while not (tmp_path / "begun").is_file():
        time.sleep(0.1)
    launcher.cancel([*handles, "genkit-never-0"])
    assert ends(launcher, handles) == [75, 75]
    assert "told" in (tmp_path / "log").read_text() and not (tmp_path / "second").exists()


def test_a_run_is_a_job(cluster, tmp_path):
    words = ["run", "ict_ring", "train.steps=40", "train.batch_size=16", "evaluate.samples=100", "--device", "cpu"]
    for more, code in ((["--nodes", "2"], 2), ([], 0)):
        asked = [sys.executable, "-m", "genkit", *words, "--launcher", "ray", *more]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
    job = done.stdout.split()[1].rstrip(":")
    assert cluster.within(60, lambda: cluster.jobs()[job] == "SUCCEEDED")
    assert list(tmp_path.glob("runs/*/report.html"))


def test_slots_are_what_the_cluster_has(cluster):
    assert built().slots == 2 and built(cpus=2.0).slots == 1 and built(jobs=7).slots == 7


def test_what_cannot_be_is_final_and_what_is_not_known_is_gone(cluster, launcher, tmp_path, monkeypatch):
    assert launcher.poll(["genkit-never-0"]) == {}
    wrong = built(resources=("CPU=1",))
    assert ends(wrong, wrong.submit("genkit-wrong", [job(tmp_path, "exit 0")])) == [1]
    assert "resources" in (tmp_path / "log").read_text()
    monkeypatch.setattr(type(launcher), "_asked", lambda self, job: {"entrypoint": "exit 0", "runtime_env": 3})
    with pytest.raises(GenkitError, match="settings"):
        launcher.submit("genkit-unlike", [job(tmp_path, "exit 0")])
    with pytest.raises(GenkitError, match="no dashboard"):
        built(address="ray://127.0.0.1:10001")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another")
    with pytest.raises(GenkitError, match="RAY_AUTH_TOKEN"):
        launcher.poll(["genkit-never-0"])


def test_a_cluster_that_does_not_answer_may_answer_later(tmp_path):
    with pytest.raises(OSError):
        built(address="http://127.0.0.1:1").poll(["genkit-never-0"])


@pytest.mark.parametrize(
    ("status", "code", "how"),
    [("PENDING", None, "waits"), ("RUNNING", None, "runs"), ("SUCCEEDED", 0, 0), ("STOPPED", None, 75),
     ("FAILED", 5, 5), ("FAILED", None, 75), ("FAILED", -9, -9)],
)  # fmt: skip
def test_states_of_ray_mean_what_a_study_asks(status, code, how):
    assert _how({"status": status, "driver_exit_code": code}) == how
