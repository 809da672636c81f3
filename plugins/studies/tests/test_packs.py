"""Small jobs as one: which go together, and that each is still a job of its own."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from genkit import component
from genkit.kinds import Setup
from genkit.runs import store
from genkit_studies import jobs, packs
from genkit_studies.jobs import Queue
from genkit_studies.ledger import Job

WHOLE, SHARING = SimpleNamespace(), SimpleNamespace(shares=True)


def some(count, seconds=1.0, **needs):
    return {
        f"{seconds}-{i}": Job(argv=("run", str(i)), log=Path(f"{i}.txt"), seconds=seconds, **needs)
        for i in range(count)
    }


@pytest.mark.parametrize(
    ("given", "start", "launcher", "sizes"),
    [
        (some(5, 60.0), 5.0, WHOLE, [1] * 5),  # 8%
        (some(5, 40.0), 5.0, WHOLE, [2, 2, 1]),  # 12%, then 6%
        (some(25, 5.0), 5.0, WHOLE, [10, 10, 5]),
        (some(3, 0.1), 0.9, WHOLE, [1] * 3),  # a start of less than a second is no matter
        (some(3, 0.0), 5.0, WHOLE, [1] * 3),  # nobody knows how long they take
        (some(8, 60.0, cards=0.25), 5.0, WHOLE, [4, 4]),
        (some(8, 25.0, cards=0.25), 5.0, WHOLE, [8]),  # 5 s of 25 s are 20%, of twice 25 s are 10%
        (some(3, 60.0, cards=0.25), 5.0, SHARING, [1] * 3),
        ({**some(2, 40.0), **some(2, 40.5, cards=0)}, 5.0, WHOLE, [2, 2]),
    ],
)
def test_so_many_go_together_that_the_start_is_a_tenth(given, start, launcher, sizes):
    groups = packs.grouped(given, start, launcher)
    assert [len(group) for group in groups] == sizes
    assert sorted(key for group in groups for key in group) == sorted(given)


def test_a_pack_needs_what_its_jobs_need_beside_each_other(tmp_path):
    given = some(8, 25.0, cards=0.25, cpus=2, memory=100)
    one = packs.of(tmp_path / "pack.json", given, WHOLE)
    assert (one.cards, one.cpus, one.memory, one.seconds) == (1, 8, 400, 50.0)
    shared = packs.of(tmp_path / "pack.json", given, SHARING)
    assert (shared.cards, shared.cpus, shared.memory, shared.seconds) == (0.25, 2, 100, 200.0)


def test_cards_are_shared_as_try_outs_say_or_as_one_is_told(tmp_path, ablate):
    queue = Queue(component=component("launcher", "cluster"), setup=Setup())
    for measured, told, sharing in (
        ({}, 0, 1), ({"a": {"share": 0.3}}, 0, 3), ({"a": {"share": 0.3}, "b": {"share": 0.6}}, 0, 1),
        ({"a": {"share": 0.01}}, 0, jobs.MOST), ({"a": {"share": 0.6}}, 2, 2),
    ):  # fmt: skip
        queue.share(measured, told)
        assert (queue.sharing, queue.cards, queue.slots) == (sharing, 1 / sharing, 2 * sharing)


def forked(file):
    """The exit code of a pack in a process of its own, and that process."""
    child = os.fork()
    if child == 0:
        os._exit(packs.run(file))
    return child


def test_a_pack_tells_each_job_of_a_signal_and_begins_no_other(ablate, tmp_path):
    run = ("run", "ict_ring", "train.steps=100000", "train.batch_size=16", "--device", "cpu", "--out")
    given = {str(i): Job(argv=(*run, str(tmp_path / str(i))), log=tmp_path / f"{i}.txt", cards=0.5) for i in range(3)}
    packs.of(file := tmp_path / "pack.json", given, WHOLE)
    child = forked(file)
    while not all(any(e["event"] == "start" for e in store.events(tmp_path / str(i))) for i in range(2)):
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        time.sleep(0.05)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == packs.PREEMPTED
    assert packs.codes(file) == {"0": 75, "1": 75} and not (tmp_path / "2").exists()
