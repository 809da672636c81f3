"""The launcher that comes along: a slot for each device, or several, and in each one job at a time."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

import attrs

from genkit.errors import HardwareError
from genkit.kinds import Setup, setting
from genkit_studies.ledger import GONE, Job
from genkit_studies.worker import CRASHED

_v = attrs.validators


@attrs.frozen(kw_only=True)
class Local:
    """Processes of this machine, which have everything imported."""

    jobs: int = setting(0, "jobs at a time; 0: one on a CPU, on cards as many as there are places", check=_v.ge(0))
    per_device: int = setting(0, "jobs at a time on each card; 0: as many as try-outs say that fit", check=_v.ge(0))

    def build(self, setup: Setup) -> LocalPool:
        made = LocalPool(places(setup.device, self.jobs, self.per_device or 1))
        made.settings = None if self.per_device else (setup.device, self.jobs)
        return made


@attrs.define(eq=False)
class Slot:
    """A process at a place, which runs one job at a time; `pid` is that of the job, and `code` how it ended."""

    process: subprocess.Popen[bytes]
    place: int
    pid: int = 0
    code: int | None = None
    unwanted: bool = False
    rest: bytes = b""

    def send(self, job: Job) -> None:
        assert self.process.stdin is not None
        self.pid, self.code, self.unwanted = 0, None, False
        line = json.dumps({"argv": job.argv, "log": str(job.log)})
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:  # it died since it was last looked at
            self.code = CRASHED

    def listen(self) -> None:
        """Take in what the slot has told; one that died is a job that crashed."""
        assert self.process.stdout is not None
        while self.code is None and select.select([self.process.stdout], [], [], 0)[0]:
            more = os.read(self.process.stdout.fileno(), 65536)
            *lines, self.rest = (self.rest + more).split(b"\n")
            for told in map(json.loads, lines):
                self.pid, self.code = told.get("pid", self.pid), told.get("code")
            if not more:
                self.code = CRASHED
        if self.unwanted and self.pid and self.code is None:
            self.unwanted = False
            with suppress(ProcessLookupError):  # it has ended, and its slot is about to tell
                os.kill(self.pid, signal.SIGTERM)

    def end(self) -> None:
        """Close it; a job that still runs is told to save and leave, and waited for."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@attrs.define(eq=False)
class LocalPool:
    """Slots on this machine, which end with this process; so a handle names it, and others know whether it is there.

    Attributes:
        places: The environment of each slot, beside this process's.
        free: Slots that wait for a job.
        taken: Those that run one, by its handle.
        settings: Device and jobs, where `share` may give more places to cards.
    """

    places: Sequence[Mapping[str, str]]
    settings: tuple[str, int] | None = None
    free: list[Slot] = attrs.field(factory=list)
    taken: dict[str, Slot] = attrs.field(factory=dict)
    pause = 0.0

    @property
    def slots(self) -> int:
        return len(self.places)

    def share(self, count: int) -> None:
        """Give each card as many places, unless it was said how many."""
        if self.settings and self.settings[0].startswith("cuda"):
            self.places = places(*self.settings, count)

    def start(self) -> None:
        """Start the slots' processes, so that they import while one plans; those that died are replaced."""
        for slot in [slot for slot in self.free if slot.process.poll() is not None]:
            self.free.remove(slot)
            slot.end()
        taken = {slot.place for slot in (*self.free, *self.taken.values())}
        for i in sorted(set(range(self.slots)) - taken):
            process = subprocess.Popen(
                [sys.executable, "-c", "from genkit_studies.worker import serve; serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **self.places[i]},
                start_new_session=True,  # Ctrl-C is for the study, which tells its jobs
            )
            self.free.append(Slot(process, i))

    def submit(self, name: str, jobs: Sequence[Job]) -> list[str]:
        handles = [f"{name}.{i}@{socket.gethostname()}:{os.getpid()}" for i in range(len(jobs))]
        for handle, job in zip(handles, jobs, strict=True):
            if handle in self.taken:  # an answer that was not heard
                continue
            self.start()
            slot = self.taken[handle] = self.free.pop(0)
            job.log.parent.mkdir(parents=True, exist_ok=True)
            slot.send(job)
        return handles

    def poll(self, handles: Sequence[str]) -> dict[str, int | str]:
        return {handle: self._look(handle) for handle in handles}

    def _look(self, handle: str) -> int | str:
        if handle not in self.taken:
            return "runs" if _elsewhere(handle) else GONE
        slot = self.taken[handle]
        slot.listen()
        if slot.code is None:
            return "runs"
        del self.taken[handle]
        if slot.process.poll() is None and slot.code != CRASHED:
            self.free.append(slot)
        else:
            slot.end()  # another is started in its place
        return slot.code

    def cancel(self, handles: Sequence[str]) -> None:
        """Tell jobs to save and leave, as soon as they run."""
        for slot in (self.taken[handle] for handle in handles if handle in self.taken):
            slot.unwanted = True
            slot.listen()

    def close(self) -> None:
        """End all slots; those without a job at once, as they may still be importing."""
        for slot in self.free:
            slot.process.kill()
        for slot in (*self.free, *self.taken.values()):
            slot.end()
        self.free, self.taken = [], {}


def _elsewhere(handle: str) -> bool:
    """Whether another process of this machine, which is there, has a job."""
    host, _, pid = handle.rpartition("@")[2].rpartition(":")
    if host != socket.gethostname() or int(pid) == os.getpid():
        return False
    with suppress(PermissionError):
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return False
    return True


def places(device: str, jobs: int = 0, per_device: int = 1) -> list[dict[str, str]]:
    """The environment of each slot.

    Args:
        device: One that is here.
        jobs: How many at a time; 0: one on a CPU, and on cards as many as there are places.
        per_device: How many on a card at a time.

    Raises:
        HardwareError: There is but one device.
    """
    if not device.startswith("cuda"):
        if per_device > 1:
            raise HardwareError("--per-device", f"{device} is one device", "give --jobs")
        return [threads(jobs)] * jobs if jobs > 1 else [{}]
    import torch

    known = os.environ.get("CUDA_VISIBLE_DEVICES")
    cards = [c.strip() for c in known.split(",")] if known else [str(i) for i in range(torch.cuda.device_count())]
    cards = [cards[int(device.partition(":")[2])]] if ":" in device else cards
    spread = [{"CUDA_VISIBLE_DEVICES": card} for _ in range(per_device) for card in cards]
    return spread[: jobs or None]


def threads(jobs: int) -> dict[str, str]:
    """An equal share of the cores that this process may use, unless the environment says otherwise."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores // jobs)))}
