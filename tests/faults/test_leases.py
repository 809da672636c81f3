"""Disks whose locks do not hold between machines: who has a run is told by leases.

The machines are processes of this one with names of their own, whose locks hold nobody (the probe `elsewhere`).
"""

import signal
from pathlib import Path

import pytest
from driver import RING, Forked, documented, events, final, finals, genkit, refused, same, steps, told, within

from genkit.testing import provide

LONG = [*RING, "train.steps=2000", "train.save_every_steps=500", "--out", "run"]
STUDY = ["ablate", *RING[1:], "--swap", "loss=l2", "--seeds", "2"]


@pytest.fixture
def site(tmp_path):
    provide(tmp_path / "site", "cluster", "probe_cluster")
    return [provide(tmp_path / "site", "elsewhere", "probe_elsewhere"), Path(__file__).parents[1] / "probes"]


@pytest.fixture
def on(site):
    """`on("a", words)`: a command on the machine `a`."""
    return lambda name, argv, locks="lease": Forked(argv, path=site, ELSEWHERE=name, GENKIT_LOCKS=locks)


@pytest.fixture(scope="module")
def alone(_elsewhere_for_all):
    genkit(*LONG)
    return final("run")


def begun(running):
    assert within(60, lambda: steps("run") or running.ended()) and running.ended() is None


def test_a_run_that_another_machine_has_is_refused(on, alone):
    first = on("a", LONG)
    begun(first)
    refused(on("b", LONG).wait(), names=["run", "is in use by a pid"])
    documented(first.wait(), {0})
    same(final("run"), alone)
    assert not list(Path("run").glob(".lease*"))


def test_a_run_whose_machine_is_gone_goes_on_elsewhere_and_at_once_on_the_same(on, alone):
    first = on("a", LONG)
    begun(first)
    first.send(signal.SIGKILL)
    first.wait()
    second = on("b", LONG)
    assert within(60, lambda: told("run", "resume")), second.err.read_text()
    second.send(signal.SIGKILL)
    second.wait()
    documented(on("b", LONG).wait(), {0})
    same(final("run"), alone)


def test_who_slept_through_its_lease_leaves_to_whoever_has_it(on, alone):
    first = on("a", LONG)
    begun(first)
    first.send(signal.SIGSTOP)
    second = on("b", LONG)
    assert within(60, lambda: told("run", "resume")), second.err.read_text()
    first.send(signal.SIGCONT)
    documented(first.wait(), {75})
    assert "taken over" in first.done.err
    documented(second.wait(), {0})
    same(final("run"), alone)


def test_two_submitters_on_two_machines_run_no_trial_twice(on, site):
    genkit(*STUDY)
    local = finals()
    Path("runs").rename("local")
    both = [on(name, [*STUDY, "--launcher", "cluster"]) for name in "ab"]
    for one in both:
        documented(one.wait(120), {0})
    assert finals().keys() == local.keys()
    for name, found in finals().items():
        same(found, local[name])
        assert [e["event"] for e in events(f"runs/{name}")].count("start") == 1


def test_control_without_leases_two_machines_take_one_run(on):
    first = on("a", LONG, "flock")
    begun(first)
    second = on("b", LONG, "flock")
    assert within(60, lambda: told("run", "resume"))
    for one in (first, second):
        one.send(signal.SIGKILL)
        one.wait()
