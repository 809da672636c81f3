"""Signals at every phase of a run: it leaves with its code, says so on record, and goes on to the same bits."""

import contextlib
import signal
from pathlib import Path

import pytest
from driver import PROBES, RING, Done, Forked, Spawned, documented, events, final, genkit, same, told, whole, within

STAGED = ["dataset=staged", "metrics.fd.features=staged", "evaluate.every_steps=40", "evaluate.samples=1200"]
RUN = [*RING, *STAGED, "--out", "run"]
CODES = {"SIGTERM": 75, "SIGUSR1": 75, "SIGHUP": 75, "SIGINT": 130}
STAGES = {
    "data": "data",
    "training": "step:25",
    "save": "save:40",
    "evaluation within training": "features:40",
    "final evaluation": "features:60",
    "report": "report",
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, _server):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    genkit(*RUN[:-1], folder, path=[staged_site(folder.parent)])
    return final(folder)


def staged_site(folder):
    from genkit.testing import provide

    return provide(folder / "site", "staged", "probe_staged")


@pytest.fixture
def site(tmp_path):
    return [staged_site(tmp_path)]


def left(done, code, folder="run"):
    """With its code and one line; a run that had begun says so at the end of its record."""
    documented(done, {code})
    assert len(done.lines) == 1, done.err
    if told(folder, "start"):
        assert events(folder)[-1]["event"] == "end", events(folder)[-1]


@pytest.mark.parametrize("phase", STAGES)
@pytest.mark.parametrize("name", CODES)
def test_a_signal_at_any_phase_leaves_with_its_code_and_the_run_goes_on_to_the_same_bits(
    name, phase, site, undisturbed
):
    left(Forked(RUN, path=site, FAULT=f"{STAGES[phase]} {name}").wait(), CODES[name])
    genkit(*RUN, path=site)
    same(undisturbed, final("run"))
    whole("run")


def test_a_signal_in_an_evaluation_is_heeded_between_blocks_and_what_is_owed_is_measured_later(site, undisturbed):
    Forked(RUN, path=site, FAULT="features:40 SIGTERM", BLOCKS="blocks").wait()
    assert Path("blocks").read_text().split().count("40") <= 2
    assert not told("run", "evaluated", k=40)
    genkit(*RUN, path=site)
    assert told("run", "evaluated", k=40)
    same(undisturbed, final("run"))


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ("SIGTERM 1.2 SIGTERM", 75),
        ("SIGINT 1.2 SIGINT", 130),
        ("SIGTERM SIGTERM", 75),
        ("SIGINT SIGINT", 130),
    ],
)
def test_a_second_signal_leaves_at_once_with_the_code_of_its_kind_and_says_so_on_record(names, code, site, undisturbed):
    left(Forked(RUN, path=site, FAULT=f"features:40 {names}").wait(), code)
    genkit(*RUN, path=site)
    same(undisturbed, final("run"))


def early(at, name="SIGTERM"):
    left(Spawned(RING, path=[PROBES / "early"], EARLY=f"{at} {name}").wait(), CODES[name])
    assert not Path("runs").exists()


@pytest.mark.parametrize("at", [1, 300, 1000])
def test_a_signal_while_torch_is_imported_leaves_before_anything_is_written(at):
    early(at)


@pytest.mark.parametrize("name", ["SIGINT", "SIGUSR1", "SIGHUP"])
def test_so_does_every_other_signal(name):
    early(500, name)


@pytest.mark.parametrize("at", [43, 47])
def test_a_signal_in_an_import_that_c_asks_for_is_not_lost(at):
    early(at)


def test_a_signal_at_any_import_is_not_lost(thorough):
    for at in range(1, 1000, 7) if thorough else (76,):
        early(at)


def test_a_signal_to_all_processes_of_a_study_leaves_nothing_that_runs():
    study = Spawned(["ablate", *RING[1:], "train.steps=4000", "--swap", "loss=l2", "--seeds", "2"])
    assert within(60, lambda: any(told(folder, "step") for folder in Path().glob("runs/*")))
    study.send(signal.SIGTERM, group=True)
    documented(study.wait(), {75})
    assert within(10, lambda: not group(study.pid))
    for folder in Path("runs").glob("ict_ring*"):
        assert not told(folder, "start") or events(folder)[-1]["event"] == "end"


def group(leader):
    """Processes of a group that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, of = stat.read_text().rpartition(")")[2].split()[:3]
            found += [stat.parent.name] if int(of) == leader and state != "Z" else []
    return found


def test_control_a_command_that_left_otherwise_is_told_apart(site):
    killed = Forked(RUN, path=site, FAULT="step:25 SIGKILL").wait()
    with pytest.raises(AssertionError):
        left(killed, 75)
    with pytest.raises(AssertionError):
        left(Done(75, err="genkit: SIGTERM after step 25; saved"), 75)  # no end on record
    with pytest.raises(AssertionError):
        left(Done(75, err="genkit: left\nTraceback (most recent call last):"), 75)


def test_control_a_stage_that_is_named_is_met(site):
    for stage in STAGES.values():
        assert Forked(RUN, path=site, FAULT=f"{stage} SIGKILL").wait().code == -signal.SIGKILL, stage
