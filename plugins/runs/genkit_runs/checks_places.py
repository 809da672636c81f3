"""What `genkit doctor` looks at of folders: whether they can be written, what is free, what kind of disk it is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from genkit.data import files
from genkit_runs import housekeeping
from genkit_runs.disks import NETWORK, disk, locks_hold, mounted
from genkit_runs.findings import Finding, note, ok, problem, size

LITTLE, NOTHING = 1e9, 100e6  # bytes that are free


def standing(folder: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))


def place(about: str, folder: Path, variable: str) -> Iterator[Finding]:
    """Whether a folder can be written, what is free there, what kind of disk it is."""
    there = standing(folder)
    named = f"{folder.absolute()}" + ("" if there == folder.absolute() else " (not there yet)")
    try:
        with tempfile.TemporaryFile(dir=there, prefix=".doctor-") as file:
            file.write(b"0" * 4096)
            file.flush()
    except OSError as error:
        what = f"{named} cannot be written ({error.strerror})"
        yield problem(about, what, f"set {variable} to a folder that can be written")
        return
    free = shutil.disk_usage(there).free
    what = f"{named}, {size(free)} free"
    if free < LITTLE:
        yield (problem if free < NOTHING else note)(about, f"{what}: little", f"make room, or set {variable}")
    else:
        yield ok(about, what)
    yield from _disk(about, there)


def _disk(about: str, folder: Path) -> Iterator[Finding]:
    kind, source, options = disk(folder, mounted())
    if NETWORK.match(kind):
        how = "locks" if locks_hold(kind, options) else "leases, as locks do not hold between machines"
        what = f"on a network file system ({kind}, {source}): who has a run is told by {how}"
        yield note(about, what, "expect it to be slow; GENKIT_LOCKS=lease or flock where that is wrong")
    elif kind in ("tmpfs", "ramfs"):
        yield note(about, f"in memory ({kind}): gone after a restart", "copy what is to be kept")


def cache() -> Iterator[Finding]:
    """The cache and the folder of weights."""
    folder = files.cache_folder()
    yield from place("cache", folder, "GENKIT_CACHE")
    if folder.is_dir():
        yield ok("cache", f"{size(housekeeping.size(folder))} in it")
    kept = os.environ.get("GENKIT_WEIGHTS")
    if kept and not os.access(kept, os.R_OK | os.X_OK):
        yield problem("weights", f"GENKIT_WEIGHTS={kept} is no folder that can be read", "mend it, or unset it")
    elif kept:
        yield ok("weights", f"{kept}, {len(os.listdir(kept))} files")
