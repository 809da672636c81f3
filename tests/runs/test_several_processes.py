"""Processes of one run: together they are one; who hangs, is killed or fails alone is named in one line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from genkit.runs import store
from genkit.testing import provide
from genkit.training.watching import Watch

PROBES = Path(__file__).parents[1] / "probes"
RING = ["run", "ict_ring", "--device", "cpu", "--out", "r", "metrics.fd=false", "train.batch_size=32"]
ENDLESS = [*RING, "train.steps=1000000", "train.log_every_steps=20", "train.timeout_min=0.1"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "-m", "genkit"]

LONELY = '''
"""A loss that goes wrong on one process alone, $LONELY = "rank how"; each process leaves its id in a file."""

import os
from pathlib import Path

import attrs
from genkit.errors import DataError, RecipeError
from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1

@hookimpl
def genkit_loss():
    return {"lonely": lazy("probe_lonely:Lonely", "Squared l2, but for one process.")}


@attrs.frozen(kw_only=True)
class Lonely:
    """Squared l2, but for one process."""

    def build(self, context):
        rank = os.environ["RANK"]
        Path(f"pid-{rank}").write_text(str(os.getpid()))
        alone, how = os.environ.get("LONELY", "- -").split()
        if alone == rank and how == "recipe":
            raise RecipeError("loss", "is wrong here", "mend it")
        if alone == rank and how == "data":
            raise DataError("data.h5", "is torn", "copy it again")

        def d(x, y, at=None):
            if alone == rank and at is not None and at.k == 30:
                if how == "stuck":
                    Path("fifo").read_text()
                if how == "backward":
                    x.register_hook(lambda grad: Path("fifo").read_text())
                    return (x - y).square().flatten(1).mean(1)
                raise {"bug": ValueError("of mine"), "late": DataError("data.h5", "is torn")}[how]
            return (x - y).square().flatten(1).mean(1)

        return d
'''


@pytest.fixture
def start(tmp_path):
    """`start("run", …, LONELY="1 bug")`: a process of genkit, or with `start(*TORCHRUN, …)` of several."""
    site = provide(tmp_path / "site", "killer", "probe_killer")
    provide(site, "lonely", "probe_lonely")
    (site / "probe_lonely.py").write_text(LONELY)
    started = []

    def call(*argv, **more):
        path = os.pathsep.join([str(PROBES), str(site), os.environ.get("PYTHONPATH", "")])
        words = argv if argv[0] == "-m" else ["-m", "genkit", *argv]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "PYTHONPATH": path}
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": {**env, **more}}
        started.append(subprocess.Popen([sys.executable, *words], **piped))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.communicate()


def ended(process, code):
    """What genkit told when it was over, but for progress."""
    _, told = process.communicate(timeout=200)
    assert process.returncode == code, told
    return [line for line in told.splitlines() if not re.match("start at|resume at|step |note: ", line)]


def training(process):
    """Wait until steps are taken; the process ids by rank."""
    for line in process.stderr:
        if line.startswith("step "):
            return {path.name[4:]: int(path.read_text()) for path in Path().glob("pid-*")}
    raise AssertionError(f"it left with {process.wait()}")


# ---- one run -------------------------------------------------------------------------------------


def test_one_and_two_processes_take_the_same_run_by_turns(start):
    steps = [*RING[:4], "metrics.fd=false", "train.batch_size=32", "train.steps=60", "train.log_every_steps=1"]
    assert ended(start(*steps, "--out", "whole"), 0) == []
    turns = [*steps, "--out", "turns"]
    for gpus, at in (("2", "20"), ("1", "40")):
        (line,) = ended(start(*turns, "--gpus", gpus, TERM_AT=at, TERM_WITH="SIGTERM"), 75)
        assert f"SIGTERM after step {at}; saved" in line
    ended(start(*turns, "--gpus", "2"), 0)
    whole, by_turns = ([e for e in store.events(Path(f)) if e["event"] == "step"] for f in ("whole", "turns"))
    assert [e["k"] for e in by_turns] == [e["k"] for e in whole] == list(range(1, 61))
    for one, two in zip(whole, by_turns, strict=True):
        assert two["figures"] == pytest.approx(one["figures"], rel=1e-5), one["k"]
    notices = [e["text"] for e in store.events(Path("turns")) if "world_size" in e.get("text", "")]
    assert len(notices) == 2 and all("equal up to rounding, but for dropout" in text for text in notices)


# ---- who is missing ------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_that_is_stopped_is_named_with_the_step(start, rank):
    run = start(*ENDLESS, "--gpus", "2", "loss.use=lonely")
    os.kill(training(run)[rank], signal.SIGSTOP)
    (line,) = ended(run, 4)
    assert re.search(rf"step \d+: rank {rank} did not come within 0.1 minutes \(train.timeout_min\)", line)


@pytest.mark.parametrize("how", ["stuck", "backward"])
def test_a_process_that_lives_and_hangs_is_named_by_who_waits(start, how):
    os.mkfifo("fifo")
    stuck = [*ENDLESS, "train.batch_size=33", "loss.use=lonely"]
    run = start(*TORCHRUN[:3], "--nproc-per-node=3", *TORCHRUN[3:], *stuck, LONELY=f"1 {how}")
    told = [line for line in ended(run, 1) if "did not come" in line]
    assert {line.partition(":")[0] for line in told} <= {"genkit", "genkit (rank 2)"}
    assert told and all("step 30: rank 1 did not come" in line for line in told)  # torchrun ends who is second


def test_who_lives_and_is_behind_has_longer_between_steps():
    watch = Watch()
    watch.meetings, watch.since, watch._limit = 5, time.monotonic() - 90, 60
    assert watch._behind("9 4 True") and not watch._behind("9 4 False") and not watch._behind("9 5 True")
    watch.since -= 300
    assert watch._behind("9 4 False") and not watch._behind("9 5 False")


class Over(RuntimeError):
    """Ends a watch as the end of its process would."""


def test_who_has_left_is_not_missed(monkeypatch):
    store, watch, ends = dist.HashStore(), Watch(), []
    store.set("1", "left")
    store.set("2", "7 3 True")

    def end(missing):
        ends.append(missing)
        raise Over

    monkeypatch.setattr(watch, "_end", end)
    watch.begin(store, 0, 3, 0.001)
    watch.join(60)
    assert ends == [["2"]]


# ---- who fails alone -----------------------------------------------------------------------------


def test_a_process_that_is_killed_is_named_with_the_signal(start):
    run = start(*ENDLESS, "--gpus", "2", "loss.use=lonely")
    os.kill(training(run)["1"], signal.SIGKILL)
    (line,) = ended(run, 4)
    assert line == "genkit: rank 1: was ended by SIGKILL; the same command goes on from the last checkpoint"


@pytest.mark.parametrize(
    ("how", "code", "told"),
    [
        ("recipe", 2, "genkit (rank 1): loss: is wrong here; mend it"),
        ("data", 4, "genkit (rank 1): data.h5: is torn; copy it again"),
        ("late", 4, "genkit (rank 1): data.h5: is torn"),
    ],
)
def test_an_error_of_one_process_is_one_line(start, how, code, told):
    assert ended(start(*ENDLESS, "--gpus", "2", "loss.use=lonely", LONELY=f"1 {how}"), code) == [told]


def test_an_error_of_all_processes_is_one_line(start):
    (line,) = ended(start(*ENDLESS, "--gpus", "2", "train.batch_size=33"), 2)
    assert "do not divide evenly over 2 processes" in line
    (line,) = ended(start(*ENDLESS, "--gpus", "2", "trian.steps=1"), 2)
    assert "did you mean 'train'" in line


def test_a_bug_on_one_process_ends_all_with_its_line_alone(start):
    (told,) = ended(start(*ENDLESS, "--gpus", "2", "loss.use=lonely", LONELY="1 bug"), 3)
    assert told.startswith("genkit (rank 1): loss 'lonely' of genkit-probe-lonely: ValueError: of mine; ")


def test_a_signal_to_the_whole_tree_saves_once(start):
    run = start(*ENDLESS, "--gpus", "2", "loss.use=lonely")
    for pid in (run.pid, *training(run).values()):
        os.kill(pid, signal.SIGTERM)
    (line,) = ended(run, 75)
    k = int(re.fullmatch(r"genkit: r: SIGTERM after step (\d+); saved; the same command resumes", line)[1])
    told = store.events(Path("r"))
    assert [e["k"] for e in told if e["event"] == "checkpoint"] == [k]
    assert told[-1]["outcome"] == "preempted"
    assert json.loads(Path("r/lock.json").read_text())["world_size"] == 2
