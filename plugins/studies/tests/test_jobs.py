"""Jobs of a launcher that fails, a submitter that is killed, machines that preempt: nothing is lost or runs twice."""

import collections
import json
import os
import signal
import socket
from pathlib import Path

import pytest

from genkit import cli, component
from genkit.errors import GenkitError, RecipeError
from genkit.kernel import resolving
from genkit.kinds import Setup
from genkit.runs import store
from genkit_studies import estimate, jobs, launching, packs, pool, study, tryouts
from genkit_studies.jobs import Queue, Unreachable
from genkit_studies.ledger import GONE, Job, Ledger

RING = [
    "ict_ring", "train.steps=24", "train.save_every_steps=8", "train.log_every_steps=8", "train.batch_size=16",
    "evaluate.samples=100", "--device", "cpu",
]  # fmt: skip
ASKED = ("--swap", "loss=l2", "--seeds", "2", "--launcher", "cluster")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(jobs, "WAITS", (0.0, 0.0))


def trouble(*lines):
    Path("cluster").mkdir(exist_ok=True)
    Path("cluster/trouble").write_text("\n".join(lines))


def taken():
    """Which words the cluster was given, each trial's and try-out's once."""
    told = [json.loads(path.read_text())["argv"] for path in Path("cluster").glob("*/job.json")]
    return collections.Counter(tuple(words[:2]) for words in told)


def killed(*argv):
    """The command in a process of its own, which is killed."""
    child = os.fork()
    if child == 0:
        try:
            cli.main(["ablate", *RING, *argv])
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def all_done(trials=4):
    known = study.load(study.find("latest"))
    assert [trial.state for trial in known.trials] == ["done"] * trials
    for trial in known.trials:
        begun = [e for e in store.events(trial.folder) if e["event"] == "start"]
        ends = [e for e in store.events(trial.folder) if e.get("outcome") == "done"]
        assert len(begun) == len(ends) == 1
    ledger = Ledger(known.folder)
    with ledger.alone():
        assert not ledger.known


def test_a_submitter_that_is_killed_finds_its_jobs_again(ablate):
    for when in ("submitted", "poll"):  # of try-outs, which have not ended
        trouble(f"{when} kill")
        killed(*ASKED)
        assert list(taken().values()) == [1, 1]
    trouble("submitted kill")  # of trials
    killed(*ASKED)
    ablate(*ASKED)
    all_done()
    assert [count for words, count in taken().items() if words[0] == "run"] == [1] * 4


def test_what_a_launcher_raises_is_told_and_tried_again(ablate):
    trouble("submit raise", "submitted raise", "poll raise", "poll raise")
    told = ablate(*ASKED)
    all_done()
    assert told.err.count("again in 0 s") == 4 and "ConnectionError: Socket timed out" in told.err
    assert set(taken().values()) == {1}


def test_a_launcher_that_fails_on_and_on_is_a_line_and_its_jobs_stay_known(ablate):
    trouble(*["poll raise"] * 3)
    told = ablate(*ASKED, code=1)
    assert "launcher cluster: poll fails (ConnectionError" in told.err and "Traceback" not in told.err
    ablate(*ASKED)
    all_done()
    assert set(taken().values()) == {1}


def test_what_no_further_try_mends_is_told_at_once_and_leaves_no_job(ablate):
    trouble("submit refuse")
    assert "invalid partition; name another" in ablate(*ASKED, code=1).err
    told = ablate(*ASKED)
    all_done()
    assert "again in" not in told.err


def test_preempted_jobs_are_submitted_again(ablate):
    trouble(*["poll nothing"] * 12, "poll preempt", "poll preempt")
    ablate(*ASKED)
    known = study.load(study.find("latest"))
    assert {trial.state for trial in known.trials} == {"done"}
    ends = [e["outcome"] for t in known.trials for e in store.events(t.folder) if e["event"] == "end"]
    assert ends.count("done") == 4


def test_jobs_that_are_preempted_again_and_again_end(tmp_path, ablate):
    queue = Queue(component=component("launcher", "cluster"), setup=Setup()).at(tmp_path / "q")
    job = Job(argv=("estimate", "nothing"), log=tmp_path / "log")
    queue.launcher.poll = lambda handles: dict.fromkeys(handles, GONE)
    assert tryouts.through(queue, {"key": job}) == {"key": GONE}
    assert len(list(Path("cluster").glob("*/job.json"))) == jobs.AGAIN + 1


def test_a_study_is_a_few_submissions_and_each_poll_asks_for_all(ablate, monkeypatch):
    ablate("--swap", "loss=l2", "--seeds", "3", "--launcher", "cluster={room=6}")
    assert [int(n) for n in Path("cluster/calls").read_text().split()] == [2, 6]


def test_two_queues_of_a_folder_submit_a_job_once(tmp_path, ablate):
    one, two = (Queue(component=component("launcher", "cluster"), setup=Setup()).at(tmp_path / "q") for _ in range(2))
    job = {"key": Job(argv=("run", "nothing"), log=tmp_path / "log")}
    one.submit(job)
    two.submit(job)
    assert one.known["key"].handle == two.known["key"].handle and len(taken()) == 1


def test_jobs_stay_with_the_launcher_that_took_them(ablate):
    trouble(*["poll nothing"] * 3, "poll kill")
    killed(*ASKED)
    ablate("--swap", "loss=l2", "--seeds", "2", "--launcher", "local")
    all_done()


@pytest.mark.parametrize(
    ("config", "study_table", "words", "found"),
    [
        ("", None, "", {"use": "local", "jobs": 0, "per_device": 0}),
        ("jobs = 3", None, "", {"use": "local", "jobs": 3, "per_device": 0}),
        ('use = "cluster"\nroom = 9', {"jobs": 5}, "", {"use": "cluster", "jobs": 5, "room": 9}),
        ('use = "cluster"\nroom = 9', {"jobs": 5}, "local", {"use": "local", "jobs": 0, "per_device": 0}),
        ("", {"use": "cluster"}, "cluster={room=8}", {"use": "cluster", "jobs": 2, "room": 8}),
    ],
)
def test_a_launcher_is_set_by_the_user_by_a_study_and_by_the_command(ablate, config, study_table, words, found):
    launching.config_file().write_text(f"[launcher]\n{config}\n")
    assert resolving.plain(launching.chosen(words, study_table)) == found


@pytest.mark.parametrize(
    ("words", "told"),
    [("cluster=3", "no table of settings"), ("cluster={rom=3}", "room"), ("cluster={room='x'}", "room")],
)
def test_wrong_settings_of_a_launcher_are_a_line(ablate, words, told):
    with pytest.raises(RecipeError, match=told):
        launching.chosen(words)


def test_a_job_elsewhere_looks_for_its_own_device(ablate, monkeypatch):
    told = ablate(*ASKED[:-2], "--launcher", "cluster", "--device", "cuda", code=2)
    assert "two steps of it fail: --device: cuda is not here" in told.err  # said by the job
    with launching.launched(component("launcher", "cluster")) as (queue, here):
        assert queue.words == () and here == "cpu"


def test_a_ledger_is_read_past_a_line_that_a_kill_tore(tmp_path):
    ledger = Ledger(tmp_path)
    with ledger.alone():
        ledger.submit("name", '{"use": "cluster"}', "", [{"a": Job(argv=("run",), log=tmp_path / "log")}])
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"event": "submi')
    again = Ledger(tmp_path)
    with again.alone():
        again.submitted("name", {"a": "7"})
    assert again.known["a"].handle == "7" and again.known["a"].job.argv == ("run",)


def test_an_unreachable_launcher_is_no_refusal():
    assert issubclass(Unreachable, GenkitError)


def submitted(ablate, *more):
    """A study whose trials are submitted, and whose command has left."""
    told = ablate(*ASKED, "--detach", *more)
    return told, study.load(study.find("latest"))


def status(ablate):
    return json.loads(of_a_study(ablate, "status", "latest", "--json").out)["counts"]


def of_a_study(ablate, *words, code=0):
    return ablate(*words, code=code, recipe=())


def test_a_command_that_leaves_has_submitted_its_trials_in_one_go(ablate):
    told, known = submitted(ablate)
    assert "4 trials are submitted" in told.out
    assert [int(n) for n in Path("cluster/calls").read_text().split()] == [2, 4]
    assert {trial.state for trial in known.trials} <= {"queued", "running"}
    counts = status(ablate)
    assert counts["queued"] + counts["running"] + counts["done"] == 4
    of_a_study(ablate, "wait", "latest")
    all_done()
    assert status(ablate) == {"done": 4, "running": 0, "queued": 0, "to do": 0, "failed": 0}
    assert set(taken().values()) == {1} and (known.folder / "report.html").is_file()


def test_a_study_is_looked_at_where_its_launcher_is_not_and_nothing_is_written(ablate):
    _, known = submitted(ablate)
    before = {path: path.read_bytes() for path in known.folder.glob("*.json*")}
    trouble("poll raise")
    told = of_a_study(ablate, "status", "latest")
    assert "note: cluster is not asked, and runs alone tell: Socket timed out" in told.err
    assert "4 trials: " in told.out and {path: path.read_bytes() for path in before} == before
    of_a_study(ablate, "cancel")
    of_a_study(ablate, "wait", code=75)


def test_trials_for_which_there_was_no_room_are_submitted_by_who_waits(ablate):
    told, _ = submitted(ablate, "--launcher", "cluster={room=3}")
    assert "3 trials are submitted" in told.out and "1 wait for room" in told.out
    of_a_study(ablate, "wait")
    all_done()


def test_a_study_that_is_cancelled_leaves_the_queue_and_goes_on_when_it_is_asked_again(ablate):
    _, known = submitted(ablate)
    assert "4 trials were told" in of_a_study(ablate, "cancel", known.name).out
    assert "cancelled; " in of_a_study(ablate, "wait", code=75).err
    assert {json.loads(path.read_text()) for path in Path("cluster").glob("*/code")} <= {0, 75}
    assert status(ablate)["queued"] == status(ablate)["running"] == 0 and status(ablate)["to do"] > 0
    ablate(*ASKED)
    assert {trial.state for trial in study.load(known.folder).trials} == {"done"}


def test_who_looks_after_jobs_leaves_when_somebody_else_cancels_them(ablate):
    trouble("submitted nothing", "submitted cancel")
    assert "cancelled; 0 of 4 trials are done" in ablate(*ASKED, code=75).err


def test_jobs_of_this_machine_cannot_be_left_nor_waited_for(ablate):
    told = ablate("--swap", "loss=l2", "--detach", code=2)
    assert "--detach: trials of this machine end with the command" in told.err
    ablate("--swap", "loss=l2")
    assert "its trials run in the command that began it" in of_a_study(ablate, "wait", code=4).err


def test_the_job_of_another_pool_of_this_machine_runs_as_long_as_that_is_there():
    local, host = pool.LocalPool([{}]), socket.gethostname()
    ended = os.fork()
    if ended == 0:
        os._exit(0)
    os.waitpid(ended, 0)
    handles = [f"genkit-1.0@{host}:{pid}" for pid in (os.getppid(), ended, os.getpid())]
    assert list(local.poll([*handles, "genkit-1.0@elsewhere:1"]).values()) == ["runs", GONE, GONE, GONE]


# ---- packs -------------------------------------------------------------------------------------------


@pytest.fixture
def slow_start(monkeypatch):
    """Jobs say that they took an hour to start, which is far more than what their trials take on any machine."""
    monkeypatch.setattr(estimate, "_since_start", lambda: 3600.0)


def test_short_trials_are_one_job_and_each_is_a_run_of_its_own(ablate, slow_start):
    told = ablate(*ASKED)
    all_done()
    assert [int(n) for n in Path("cluster/calls").read_text().split()] == [2, 1]
    assert "a job takes 3600.0 s to start" in told.err and "trials are one job" in told.err
    assert "with 1 at a time" in told.err
    assert not list(study.find("latest").glob("packs/*"))


def test_a_submitter_that_is_killed_finds_its_packs_again(ablate, slow_start):
    trouble("submit nothing", "submitted nothing", "submitted kill")
    killed(*ASKED)
    ablate(*ASKED)
    all_done()
    assert [(words[:2], count) for words, count in taken().items() if words[0] == "ablate"] == [(("ablate", "jobs"), 1)]


def test_a_pack_that_is_preempted_goes_on_with_what_it_has_not_done(ablate, slow_start):
    trouble(*["poll nothing"] * 8, "poll preempt")
    ablate(*ASKED)
    known = study.load(study.find("latest"))
    assert {trial.state for trial in known.trials} == {"done"}
    ends = [e["outcome"] for t in known.trials for e in store.events(t.folder) if e["event"] == "end"]
    assert ends.count("done") == 4


def test_a_pack_that_cannot_begin_says_why_for_each_of_its_trials(ablate, slow_start, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(packs, "run", lambda file: 1 / 0)
        told = ablate(*ASKED, code=5)
    assert told.out.count("crashed: genkit-lab-studies: ZeroDivisionError") == 4
    ablate(*ASKED)
    all_done()
