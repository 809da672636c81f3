"""Leases: who has a file, for disks whose own locks do not hold between machines.

A lease is a file that whoever has it writes anew every few seconds. Who finds it unchanged for a minute takes it, by a
clock of its own alone, so machines need not agree on the time. Who finds its own gone has slept through that minute,
and leaves at once.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from genkit.errors import CheckpointError, tell
from genkit_runs.disks import hold_between_machines

BEAT = 5.0  # seconds between two writes
LIFE = 60.0  # seconds without one after which a lease is anybody's
LOOK = 0.2  # seconds between two looks at a lease that another has
PREEMPTED = 75


def lease(path: Path) -> Lease | None:
    """The lease of a file; None where locks hold between machines. `$GENKIT_LOCKS`, flock or lease, says it instead."""
    wanted = os.environ.get("GENKIT_LOCKS")
    held = wanted == "flock" or (wanted != "lease" and hold_between_machines(path.parent))
    return None if held else Lease(path)


@cache
def machine() -> str:
    """The kernel that runs here, and its table of processes: where they are the same, a process id means the same."""
    with suppress(OSError):
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{kernel}.{os.stat('/proc/self/ns/pid').st_ino}"
    return socket.gethostname()


class Lease:
    """What one process may have at a time, on any machine that sees the file; a context."""

    def __init__(self, path: Path) -> None:
        self.path, self.token, self.count = path, secrets.token_hex(8), 0
        self._left = threading.Event()
        self._beats = threading.Thread(target=self._keep, daemon=True)

    @property
    def holder(self) -> str:
        """Host and pid of who has it, as far as clocks tell; empty if nobody does."""
        with suppress(OSError):
            if time.time() - self.path.stat().st_mtime < LIFE and not _ended(found := _read(self.path) or ""):
                return " ".join(found.split()[:3])
        return ""

    def __enter__(self) -> None:
        """Take it, or wait for as long as it may still be another's.

        Raises:
            CheckpointError: Another process has it.
        """
        while not self._created():
            if (seen := _read(self.path)) is None:
                continue
            since = time.monotonic()
            while (now := _read(self.path)) == seen and not _ended(seen) and time.monotonic() - since < LIFE:
                time.sleep(LOOK)
            if now == seen:
                self._take_away(seen)
            elif now and now.split()[:5] == seen.split()[:5]:
                who = " ".join(seen.split()[:3])
                raise CheckpointError(self.path.parent, f"is in use by {who}", "wait for it, or stop it")
        self._beats.start()

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._beats.join()
        if self._ours():
            self.path.unlink(missing_ok=True)

    def _created(self) -> bool:
        try:
            with self.path.open("x") as file:
                file.write(self._line())
            return True
        except FileExistsError:
            return False

    def _line(self) -> str:
        self.count += 1
        return f"{socket.gethostname()} pid {os.getpid()} {machine()} {self.token} {self.count:08d}\n"

    def _take_away(self, seen: str) -> None:
        """Remove what has ended; if it is another's by now, put it back."""
        moved = self.path.with_name(f"{self.path.name}.{self.token}")
        with suppress(FileNotFoundError):
            self.path.rename(moved)
            if _read(moved) == seen:
                moved.unlink()
            else:
                moved.rename(self.path)

    def _ours(self) -> bool:
        return self.token in (_read(self.path) or "")

    def _keep(self) -> None:
        """Write it every few seconds; who has lost it, and not for a moment only, has no business here any more."""
        missed = 0
        while not self._left.wait(BEAT):
            with suppress(OSError):  # the disk may come back
                missed = 0 if self._ours() else missed + 1
                if missed > 1:
                    tell(
                        f"{self.path.parent} was taken over meanwhile; left at once, the same command goes on",
                        PREEMPTED,
                    )
                    os._exit(PREEMPTED)
                elif not missed:
                    with self.path.open("r+") as file:
                        file.write(self._line())


def _read(path: Path) -> str | None:
    """What stands in a lease: nothing where whoever made it has not written yet, None where there is none."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return None


def _ended(line: str) -> bool:
    """Whether a process of this machine wrote it that is no more."""
    words = line.split()
    if len(words) < 5 or words[3] != machine():
        return False
    with suppress(PermissionError):
        try:
            os.kill(int(words[2]), 0)
        except ProcessLookupError:
            return True
    return False
