"""Launchers: submitters that are killed, jobs that are preempted, a controller that fails; the bits stay the same.

The launcher is the probe `cluster`, whose jobs outlive whoever submits them.
"""

import collections
import os
import shutil
import signal
from pathlib import Path

import pytest
from driver import RING, Forked, dice, documented, events, finals, genkit, same, told, whole, within

from genkit.testing import provide

STUDY = ["ablate", *RING[1:], "--swap", "loss=l2", "--seeds", "2"]
CLUSTER = [*STUDY, "--launcher", "cluster"]
OTHERS = ("submitted raise", "poll raise", "poll preempt")


@pytest.fixture
def site(tmp_path):
    return [provide(tmp_path / "site", "cluster", "probe_cluster"), Path(__file__).parents[1] / "probes"]


def trouble(*lines):
    Path("cluster").mkdir(exist_ok=True)
    Path("cluster/trouble").write_text("\n".join(lines))


def nothing_is_left():
    """No job of the cluster waits or runs, and the study's ledger knows of none."""
    for path in Path("cluster").glob("*/job.json"):
        assert (path.parent / "code").is_file(), path
    (study,) = Path("runs/studies").iterdir()
    keys = [key for e in told(study, "submit") for key in e["jobs"]]
    assert collections.Counter(keys) == collections.Counter(e["key"] for e in told(study, "ended"))


def no_run_had_two_processes_at_a_time():
    """Whoever began a run did so after the one before had ended, or was killed."""
    for folder in finals():
        told_of = [e["event"] for e in events(Path("runs") / folder)]
        assert told_of.count("start") == 1 and told_of[-1] == "end", (folder, told_of)


@pytest.fixture(scope="module")
def local(_elsewhere_for_all):
    """What the study comes to in the slots of this machine."""
    genkit(*STUDY)
    found = finals()
    shutil.rmtree("runs")
    return found


def agree(one, other):
    assert one.keys() == other.keys()
    for name in one:
        same(one[name], other[name])
        whole(f"runs/{name}")


def test_a_study_whose_submitter_is_killed_and_whose_jobs_are_preempted_ends_with_the_bits_of_the_local_pool(
    request, thorough, site, local
):
    chance, killed = dice(request, "launchers"), 0
    while killed < (60 if thorough else 6):
        when = chance.choice(["submit", "submitted", "poll"])
        before = chance.randrange(10 if when == "poll" else 2)
        trouble(*chance.sample(OTHERS, 2), *[f"{when} nothing"] * before, f"{when} kill")
        done = Forked(CLUSTER, path=site).wait(120)
        documented(done, {0, -signal.SIGKILL})
        killed += done.code == -signal.SIGKILL
        if done.code == 0:
            as_if_nothing_had_happened(local)
            shutil.rmtree("runs")
            shutil.rmtree("cluster")
    trouble()
    genkit(*CLUSTER, path=site, seconds=120)
    as_if_nothing_had_happened(local)


def as_if_nothing_had_happened(local):
    agree(finals(), local)
    nothing_is_left()
    no_run_had_two_processes_at_a_time()


def test_try_outs_that_nobody_asks_for_any_more_leave_the_queue(site):
    trouble("submitted kill")
    killed = Forked(CLUSTER, path=site).wait(120)
    assert killed.code == -signal.SIGKILL and len([*Path("cluster").glob("*/job.json")]) == 2
    Forked([*CLUSTER, "--only", "failed"], path=site).wait(120)  # of which there are none
    nothing_is_left()


def test_a_submitter_that_is_told_to_leave_has_its_jobs_save_and_leaves_none(site, local):
    running = Forked([*CLUSTER, "train.steps=4000"], path=site)
    assert within(60, lambda: any(told(folder, "step") for folder in Path().glob("runs/*")))
    running.send(signal.SIGTERM)
    documented(running.wait(), {75})
    nothing_is_left()
    for folder in Path("runs").glob("ict_ring*"):
        assert not told(folder, "start") or events(folder)[-1]["event"] == "end"


def test_a_study_that_was_left_is_waited_for_by_whoever_comes_and_cancelled_by_another(site, local):
    genkit(*CLUSTER, "--detach", path=site)
    waiting = Forked(["ablate", "wait"], path=site)
    assert within(60, lambda: any(told(folder, "step") for folder in Path().glob("runs/*")))
    genkit("ablate", "cancel", path=site)
    documented(waiting.wait(), {0, 75})  # all may have been done
    nothing_is_left()
    genkit(*CLUSTER, path=site, seconds=120)
    agree(finals(), local)


@pytest.mark.parametrize("lines", [1, 2, 5, 30])
def test_a_ledger_whose_end_is_lost_submits_again_and_runs_nothing_twice(site, local, lines):
    """As when a disk that several machines see was not written before the power went."""
    trouble("submit nothing", "submitted nothing", *["poll nothing"] * 9, "poll kill")
    Forked(CLUSTER, path=site).wait(120)
    for ledger in Path("runs/studies").glob("*/events.jsonl"):
        kept = ledger.read_bytes().splitlines(keepends=True)[:-lines]
        ledger.write_bytes(b"".join(kept) + b'{"event": "ended", "key"')
    genkit(*CLUSTER, path=site, seconds=120)
    agree(finals(), local)
    no_run_had_two_processes_at_a_time()


def test_control_a_job_that_is_left_is_told(site):
    genkit(*CLUSTER, path=site, seconds=120)
    nothing_is_left()
    one = next(Path("cluster").glob("*/code"))
    os.rename(one, one.with_name("code.away"))
    with pytest.raises(AssertionError):
        nothing_is_left()
