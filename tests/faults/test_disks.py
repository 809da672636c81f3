"""Disks that are full or read-only, and folders that go away: one line, exit code 4, nothing half-written."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from driver import RING, Done, Forked, Spawned, documented, events, final, genkit, refused, same, told, whole, within
from marks import point

RUN = [*RING, "--out", "run"]
LONG = [*RUN, "train.steps=30000", "train.save_every_steps=50", "train.log_every_steps=10"]
MOUNT = "mkdir -p disk && mount -t tmpfs -o size={size} none disk"
KEEP = "code=$?; cp -a disk/. kept; exit $code"


@pytest.fixture(scope="session")
def mounts():
    """Whether this user may mount file systems in a namespace of its own."""
    words = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs none /mnt"]
    try:
        possible = subprocess.run(words, capture_output=True, check=False, timeout=10).returncode == 0
    except OSError:
        possible = False
    if not possible:
        pytest.skip("no user namespaces here; the file-size limit stands in for a full disk")


def full(done, folder):
    """One line that names a file, code 4, and a record of which every line can be read."""
    refused(done, {4})
    whole(folder)
    lines = (Path(folder) / "events.jsonl").read_bytes().splitlines() if told(folder, "start") else []
    assert len(events(folder)) == len([json.loads(line) for line in lines])


@pytest.mark.parametrize(
    "most",
    [
        pytest.param(10, marks=point(4, "traceback")),
        pytest.param(600, marks=point(4, "traceback")),
        pytest.param(1000, marks=point(4, "traceback")),
        5000,
        20_000,
    ],
)
def test_files_that_cannot_grow_end_a_run_in_one_line_and_it_goes_on_when_they_can(most, undisturbed):
    full(Forked(RUN, limits={"RLIMIT_FSIZE": most}).wait(), "run")
    genkit(*RUN)
    same(undisturbed, final("run"))
    whole("run")


@pytest.mark.parametrize("size", [pytest.param("8k", marks=point(4, "traceback")), "60k", "136k", "144k"])
def test_a_full_disk_ends_a_run_in_one_line_and_it_goes_on_where_there_is_space(size, mounts, undisturbed):
    inside = f'{MOUNT.format(size=size)}; "$@"; {KEEP}'
    full(Spawned([*RING, "--out", "disk/run"], wrap=f"exec unshare -rm sh -c '{inside}' sh \"$@\"").wait(), "kept/run")
    genkit(*RING, "--out", "kept/run")
    same(undisturbed, final("kept/run"))


@pytest.mark.parametrize(
    ("command", "most"),
    [
        ("report run", 20_000),
        ("evaluate run --samples 100", 1200),
        ("sample run --count 4 --out new.h5", 1000),
        ("sample run --count 4 --out new.png", 10),
        ("sample run --count 4 --out new", 10),
        ("stats make digits --features pixels --out new.h5", 4000),
        ("recipe copy ict_ring new.toml", 100),
        ("data pack pictures new.h5 --size 8", 2000),
    ],
)
@point(4, "traceback; where HDF5 is written, a crash of the interpreter")
def test_what_a_command_cannot_write_whole_it_does_not_leave(command, most):
    genkit(*RUN)
    genkit("sample", "run", "--count", "4", "--out", "pictures/class")
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file() and path.name != ".lock"}
    refused(Forked(command.split(), limits={"RLIMIT_FSIZE": most}).wait(), {4})
    assert not [path for path in Path().glob("*new*") if path.is_file() or list(path.iterdir())]
    assert before == {path: path.read_bytes() for path in before}
    whole("run")


READ_ONLY = 'mount --bind store store && mount -o remount,ro,bind store && exec "$@"'


@pytest.mark.parametrize(
    ("command", "codes"),
    [
        pytest.param("runs remove store/run --yes", {4}, marks=point(15, "a file without its folder is named")),
        ("report store/run", {4}),
        ("evaluate store/run --samples 100", {4}),
        ("sample store/run --count 4 --out elsewhere", {0}),
        ("runs show store/run", {0}),
        ("run", {0, 4}),
    ],
)
def test_a_run_on_a_read_only_disk_is_looked_at_and_what_needs_more_says_so(command, codes, mounts):
    genkit(*RING, "--out", "store/run")
    argv = [*RING, "--out", "store/run"] if command == "run" else command.split()
    done = Spawned(argv, wrap=f"exec unshare -rm sh -c '{READ_ONLY}' sh \"$@\"").wait()
    documented(done, codes)
    assert not done.code or refused(done, {4}, ["store"]) is None


@pytest.mark.parametrize("how", ["removed", "renamed"])
@point(4, "the folder is not named, or there is a traceback")
def test_a_run_folder_that_goes_away_while_it_runs_is_named_in_one_line(how):
    run = Forked(LONG)
    assert within(30, lambda: told("run", "checkpoint"))
    Path("run").rename("elsewhere")
    if how == "removed":
        shutil.rmtree("elsewhere")
    refused(run.wait(), {4}, ["run", "renamed|removed|gone|moved|no longer"])
    assert not Path("run").exists()


def test_a_busy_run_is_neither_removed_nor_run_twice():
    run = Forked(LONG)
    try:
        assert within(30, lambda: told("run", "checkpoint"))
        for argv in (["runs", "remove", "run"], LONG, ["evaluate", "run"]):
            refused(Forked(argv).wait(), {4}, [str(run.pid)])
        for argv in (["runs", "list"], ["report", "run"], ["sample", "run", "--count", "4", "--out", "some"]):
            genkit(*argv)
        assert not run.ended()
    finally:
        run.send(15)
    documented(run.wait(), {75})


def test_control_what_a_full_disk_may_leave_is_told_apart():
    genkit(*RUN)
    good = Done(4, err="genkit: run/lock.json: no space left on the device; free some")
    full(good, "run")
    for bad in (Done(1, err=good.err), Done(4, err=good.err * 2 + "\nTraceback"), Done(4)):
        with pytest.raises(AssertionError):
            full(bad, "run")
    Path("run/lock.json").write_text('{"id": ')
    with pytest.raises(ValueError, match="Expecting"):
        full(good, "run")
