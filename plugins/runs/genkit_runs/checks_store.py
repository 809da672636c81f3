"""What `genkit doctor` looks at of the store of runs: what its disk is trusted with, and what is in it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from genkit.errors import GenkitError
from genkit.runs import store
from genkit.training import checkpoint
from genkit_runs import findings, housekeeping, leases
from genkit_runs.checks_places import place, standing
from genkit_runs.findings import Finding, note, ok, problem, size

SLOW_SEC = 2.0  # for a megabyte to be synced
VERIFY_SEC = 5.0  # for checkpoints to be read
TRIES_LOCK = """
import fcntl, sys
with open(sys.argv[1], "a") as file:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(3)
"""


def disk_of_runs() -> Iterator[Finding]:
    """Whether the store of runs can be trusted with what a run asks of a disk."""
    yield from place("runs", store.root(), "GENKIT_RUNS")
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=standing(store.root())) as name:
            for about, check in (("locks", locks), ("sync", syncs), ("rename", renames), ("hdf5", hdf5)):
                yield from findings.of(about, check, Path(name))
    except OSError:
        return  # that it cannot be written is told


def locks(room: Path) -> Iterator[Finding]:
    """Whether a lock keeps a second process out, or a lease does."""
    if leases.lease(room / ".lease"):
        yield ok("locks", "leases tell who has a run, on any machine")
        return
    remedy = "set GENKIT_LOCKS=lease: else two processes could take one run"
    with (room / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            yield problem("locks", f"files cannot be locked ({error.strerror})", remedy)
            return
        code = [sys.executable, "-I", "-S", "-c", TRIES_LOCK, str(room / ".lock")]
        left = subprocess.run(code, capture_output=True, text=True, timeout=30, check=False)
    if left.returncode == 0:
        yield problem("locks", "a second process got a lock that this one held", remedy)
    elif left.returncode != 3:
        raise OSError(left.stderr.strip().rpartition("\n")[2])
    else:
        yield ok("locks", "a second process is kept out")


def syncs(room: Path) -> Iterator[Finding]:
    """Whether files and folders can be synced, and how long it takes."""
    began = time.monotonic()
    try:
        with (room / "synced").open("wb") as file:
            file.write(os.urandom(2**20))
            file.flush()
            os.fsync(file.fileno())
        descriptor = os.open(room, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        remedy = "keep runs on another disk (GENKIT_RUNS): a power cut could cost a checkpoint"
        yield problem("sync", f"files cannot be synced ({error.strerror})", remedy)
        return
    took = time.monotonic() - began
    what = f"a megabyte is synced in {took:.3f} s"
    yield note("sync", what, "save less often, or on another disk") if took > SLOW_SEC else ok("sync", what)


def renames(room: Path) -> Iterator[Finding]:
    """Whether what is renamed takes its new place whole and at once."""
    target, odd, done = room / "target", list[str](), threading.Event()
    target.write_bytes(b"0" * 4096)
    reader = threading.Thread(target=_look, args=(target, odd, done), daemon=True)
    reader.start()
    try:
        for i in range(50):
            (room / "partial").write_bytes(str(i % 10).encode() * 4096)
            os.replace(room / "partial", target)
    finally:
        done.set()
        reader.join(10)
    (room / ".tmp").mkdir()
    os.rename(room / ".tmp", room / "step")
    if odd or (room / ".tmp").exists() or not (room / "step").is_dir():
        remedy = "keep runs on another disk (GENKIT_RUNS): here a checkpoint can be half a one"
        yield problem("rename", "a file that is replaced is gone or torn for a moment", remedy)
    else:
        yield ok("rename", "a file is replaced at once")


def _look(target: Path, odd: list[str], done: threading.Event) -> None:
    """Read a file until it is done; what was not one whole content is odd."""
    while not done.is_set():
        try:
            content = target.read_bytes()
        except OSError as error:
            odd.append(str(error))
        else:
            odd += [] if len(content) == 4096 and len(set(content)) == 1 else ["torn"]


def hdf5(room: Path) -> Iterator[Finding]:
    """Whether HDF5 writes, reads and locks files there."""
    import h5py

    path, asked = room / "file.h5", os.environ.get("HDF5_USE_FILE_LOCKING")
    remedy = "HDF5_USE_FILE_LOCKING=FALSE, and no file is read while it is written"
    try:
        with h5py.File(path, "w") as file:
            file["x"] = [1, 2, 3]
            held = _held(path)
        with h5py.File(path) as file:
            whole = list(file["x"]) == [1, 2, 3]
    except OSError as error:
        yield problem("hdf5", f"files cannot be used there ({' '.join(str(error).split())[:160]})", remedy)
        return
    if not whole:
        yield problem("hdf5", "what is read differs from what was written", "check the disk")
    elif held:
        yield ok("hdf5", f"h5py {h5py.__version__} writes, reads and locks files there")
    else:
        what = "files are not locked while they are written" + (f" (HDF5_USE_FILE_LOCKING={asked})" if asked else "")
        yield note("hdf5", what, "unset HDF5_USE_FILE_LOCKING" if asked else "read no file while it is written")


def _held(path: Path) -> bool:
    """Whether somebody has a file locked."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


# ---- what is in it -------------------------------------------------------------------------------


def runs() -> Iterator[Finding]:
    """Runs that are damaged, and what killed ones left behind."""
    damaged: list[str] = []
    found = store.runs(damaged.append)
    damaged += [*_lost(), *_unreadable(found)]
    checked, faults = _verified(found)
    damaged += faults
    remedy = "restore it, run its recipe again with --fresh, or remove the folder"
    yield from (problem("runs", text.replace(" is passed over:", ":", 1), remedy) for text in damaged)
    idle = [s.folder for s in found if not store.holder(s.folder)]
    left = [path for folder in idle for path in housekeeping.half_written(folder)]
    if left:
        what = f"{len(left)} half-written, {size(sum(map(housekeeping.size, left)))}, such as {left[0]}"
        yield note("runs", what, "`genkit runs gc` removes them")
    running = len(found) - len(idle)
    told = f"{len(found)} can be read, {running} running, newest checkpoints of {checked} verified"
    yield ok("runs", told if found or damaged else "none yet")


def _lost() -> Iterator[str]:
    """Run folders without the file by which they are known."""
    for recipe in sorted(store.root().glob("*/recipe.toml")):
        if not (recipe.parent / "lock.json").is_file():
            yield f"{recipe.parent}: lock.json is missing"


def _unreadable(found: list[store.Summary]) -> Iterator[str]:
    for s in found:
        try:
            store.recipe_file(s.folder)
            store.evaluations(s.folder)
            checkpoint.best(s.folder / "checkpoints")
        except GenkitError as error:
            yield f"{error.where}: {error.what}"


def _verified(found: list[store.Summary]) -> tuple[int, list[str]]:
    """The newest checkpoints of runs, newest runs first, as many as there is time for: how many, and their faults."""
    began, faults, checked = time.monotonic(), [], 0
    for s in found:
        newest = checkpoint.present(s.folder / "checkpoints")[-1:]
        if s.state == "running" or time.monotonic() - began > VERIFY_SEC:
            continue
        checked += 1
        faults += [f"{path}: {fault}" for path in newest if (fault := checkpoint.broken(path))]
    return checked, faults
