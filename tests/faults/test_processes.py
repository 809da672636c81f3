"""Two processes of which one fails: all end within a stated time, rank and cause are named, and the run goes on."""

import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from driver import (
    RING,
    Forked,
    Spawned,
    documented,
    events,
    final,
    genkit,
    quiet,
    refused,
    same,
    steps,
    told,
    within,
)
from marks import point

from genkit.testing import provide

PATIENCE = ["train.timeout_min=0.17"]  # the setting after which a process that does not answer is given up
RUN = [*RING, "loss=staged", "evaluate.every_steps=40", "metrics.fd.features=staged"]
BOTH = ["--gpus", "2"]
AT_ONCE = 20  # seconds after a fault; less than 2 are promised, and a busy machine takes more
SECONDS = 60  # all processes have ended, at the latest, where one is gone; their start included


@pytest.fixture
def site(tmp_path):
    return [provide(tmp_path / "site", "staged", "probe_staged")]


class Together:
    """The processes of one run, forked, as a launcher starts them: told by the environment who they are."""

    def __init__(self, argv, path, world=2, **env):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = str(free.getsockname()[1])
        env = {"WORLD_SIZE": str(world), "MASTER_ADDR": "localhost", "MASTER_PORT": port, **env}
        self.ranks = [Forked(argv, path, RANK=str(r), LOCAL_RANK=str(r), **env) for r in range(world)]

    def wait(self, seconds=SECONDS):
        assert within(seconds, lambda: all(rank.ended() for rank in self.ranks)), "some have not ended"
        return [rank.done for rank in self.ranks]

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        for rank in self.ranks:
            rank.send(signal.SIGKILL, group=True)
        assert within(10, lambda: all(rank.ended() for rank in self.ranks))


def together(argv, site, **how):
    with Together(argv, site, **how) as run:
        for done in run.wait():
            assert done.code == 0, done.err
            quiet(done)
    return run


EITHER = pytest.mark.parametrize("rank", [pytest.param("0", marks=pytest.mark.thorough), "1"])


@EITHER
@point(16, "a bare traceback of the rank that raises")
def test_of_two_processes_one_raises_and_rank_and_cause_are_named(rank, site):
    done = Spawned([*RUN, *BOTH, "--out", "run"], site, FAULT="loss:25 raise", FAULT_RANK=rank).wait(SECONDS)
    documented(done, {1, 3})
    assert "the fault at loss:25" in done.err and f"rank {rank}" in done.err
    assert len(done.lines) <= 2
    genkit(*RUN, "--out", "run", path=site)


@EITHER
@point(16, "exit code 247, and the rank is not named")
def test_of_two_processes_one_is_killed_and_the_run_ends_at_once_with_rank_and_cause(rank, site):
    done = Spawned([*RUN, *BOTH, "--out", "run"], site, FAULT="loss:45 SIGKILL", FAULT_RANK=rank).wait(SECONDS)
    assert time.time() - told("run", "checkpoint", k=40)[0]["time"] < AT_ONCE
    documented(done, {1, 4})
    assert f"rank {rank}" in done.err and "SIGKILL" in done.err
    assert [path.name for path in steps("run")] == ["step-0000020", "step-0000040"]


def test_a_process_that_waits_for_another_heeds_signals():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    env = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    waiting = Forked([*RING, "--out", "run"], **env)

    def listens():
        with socket.socket() as asking:
            return asking.connect_ex(("localhost", port)) == 0

    assert within(SECONDS, listens)
    waiting.send(signal.SIGTERM)
    documented(waiting.wait(AT_ONCE), {75})


@pytest.mark.parametrize("rank", [0, 1])
def test_where_one_process_is_killed_the_other_ends_at_once_and_says_so(rank, site):
    with Together([*RUN, "--out", "run"], site, FAULT="loss:45 SIGKILL", FAULT_RANK=str(rank)) as run:
        both = run.wait()
    assert both[rank].code == -signal.SIGKILL
    refused(both[1 - rank], {4}, ["another process is gone"])
    assert steps("run")[-1].name == "step-0000040"
    together([*RUN, "--out", "run"], site)
    assert told("run", "resume", k=40)


@point(16, "the others wait for 30 minutes without a word")
def test_of_two_processes_one_stands_still_and_the_other_ends_and_names_rank_and_step(site):
    with Together([*RUN, *PATIENCE, "--out", "run"], site, FAULT="loss:45 SIGSTOP", FAULT_RANK="1") as run:
        assert within(SECONDS, run.ranks[0].ended)
        refused(run.ranks[0].done, {4}, ["rank 1", "step 4[5-9]"])


def test_of_two_processes_one_is_slow_and_the_run_goes_on_to_the_same_bits(site):
    together([*RUN, "--out", "one"], site)
    together([*RUN, "--out", "slow"], site, FAULT="loss:45 3", FAULT_RANK="1")
    same(final("one"), final("slow"))


def test_processes_that_are_killed_go_on_from_the_last_checkpoint_to_the_same_bits(site):
    together([*RUN, "--out", "one"], site)
    with Together([*RUN, "--out", "run"], site, FAULT="save:40 SIGKILL") as run:
        run.wait()
    together([*RUN, "--out", "run"], site)
    assert told("run", "resume")
    same(final("one"), final("run"))


def close(one, other):
    """The weights of two runs are equal up to rounding."""
    for name, (kind, _, raw) in one[1].items():
        if kind == "F32" and not name.startswith("optimizer/"):
            a, b = (np.frombuffer(bytes_, np.float32) for bytes_ in (raw, other[1][name][2]))
            assert np.allclose(a, b, rtol=1e-2, atol=1e-3), (name, float(np.abs(a - b).max()))


@point(16, "the draws depend on the rank")
def test_one_or_two_processes_take_the_same_run_up_to_rounding(site):
    genkit(*RUN, "--out", "one", path=site)
    together([*RUN, "--out", "two"], site)
    close(final("one"), final("two"))


def test_two_then_one_then_two_processes_go_on_with_a_notice_each(site):
    """The steps are taken in three parts, the numbers of processes are told, and the run is done."""
    with Together([*RUN, "--out", "run"], site, FAULT="step:25 SIGTERM") as run:
        assert [done.code for done in run.wait()] == [75, 75]
    genkit(*RUN, "--out", "run", path=site, FAULT="step:45 SIGTERM", code=75)
    together([*RUN, "--out", "run"], site)
    notices = [e["text"] for e in told("run", "notice") if "world_size" in e["text"] or "processes" in e["text"]]
    assert len(notices) == 2 and all("2" in text and "1" in text for text in notices)
    assert [e["event"] for e in events("run") if e["event"] in ("start", "resume")] == ["start", "resume", "resume"]


def test_a_signal_to_the_launcher_reaches_all_and_they_save(site):
    run = Spawned([*RUN, *BOTH, "train.steps=4000", "--out", "run"], site)
    assert within(SECONDS, lambda: told("run", "checkpoint", k=40) or run.ended())
    run.send(signal.SIGTERM)
    documented(run.wait(SECONDS), {75})
    assert events("run")[-1]["outcome"] == "preempted"


@pytest.mark.thorough
def test_restarts_of_torchrun_go_on_from_the_last_checkpoint(site, tmp_path):
    """The fault comes in the first attempt alone, since it is met where no checkpoint is."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"]
    run = Spawned([*RUN, "--out", "run"], site, wrap=f'shift; exec {" ".join(words)} "$@"',
                  FAULT="save:20 SIGKILL", TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")  # fmt: skip
    done = run.wait(120)
    assert done.code == 0, done.err[-3000:]
    assert told("run", "end", outcome="done")


def test_control_processes_without_a_fault_end_well_and_one_that_hangs_is_told_apart(site):
    together([*RUN, "--out", "run"], site)
    assert not [name for name in (b"rank 0", b"rank 1") if name in Path("run/events.jsonl").read_bytes()]
    stopped = Together([*RUN, "--out", "other"], site, FAULT="loss:25 SIGSTOP", FAULT_RANK="1")
    with stopped, pytest.raises(AssertionError, match="have not ended"):
        stopped.wait(3)
    with pytest.raises(AssertionError):
        close(final("run"), (None, {name: (k, s, bytes(len(raw))) for name, (k, s, raw) in final("run")[1].items()}))
