"""The launcher that comes along: a slot for each device, or several, and in each one job at a time."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import attrs

from genkit.errors import HardwareError, RecipeError
from genkit_studies.worker import CRASHED


@attrs.frozen(kw_only=True)
class Job:
    """`genkit` with some words, in a process of its own.

    Attributes:
        argv: The words after `genkit`: a launcher may run `python -m genkit *argv`.
        log: Where its output goes.
    """

    argv: tuple[str, ...]
    log: Path


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
    """Slots on this machine; the handle of a job is the slot that runs it.

    Attributes:
        places: The environment of each slot, beside this process's.
    """

    places: Sequence[Mapping[str, str]]
    free: list[Slot] = attrs.field(factory=list)
    taken: list[Slot] = attrs.field(factory=list)

    @property
    def slots(self) -> int:
        return len(self.places)

    def start(self) -> None:
        """Start the slots' processes, so that they import while one plans; those that died are replaced."""
        for slot in [slot for slot in self.free if slot.process.poll() is not None]:
            self.free.remove(slot)
            slot.end()
        taken = {slot.place for slot in (*self.free, *self.taken)}
        for i in sorted(set(range(self.slots)) - taken):
            process = subprocess.Popen(
                [sys.executable, "-c", "from genkit_studies.worker import serve; serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **self.places[i]},
                start_new_session=True,  # Ctrl-C is for the study, which tells its jobs
            )
            self.free.append(Slot(process, i))

    def submit(self, job: Job) -> Slot:
        self.start()
        slot = self.free.pop(0)
        job.log.parent.mkdir(parents=True, exist_ok=True)
        slot.send(job)
        self.taken.append(slot)
        return slot

    def poll(self, slot: Slot) -> int | None:
        slot.listen()
        if slot.code is not None:
            self.taken.remove(slot)
            if slot.process.poll() is None and slot.code != CRASHED:
                self.free.append(slot)
            else:
                slot.end()  # another is started in its place
        return slot.code

    def cancel(self, slot: Slot) -> None:
        """Tell a job to save and leave, as soon as it runs."""
        slot.unwanted = True
        slot.listen()

    def close(self) -> None:
        """End all slots; those without a job at once, as they may still be importing."""
        for slot in self.free:
            slot.process.kill()
        for slot in (*self.free, *self.taken):
            slot.end()
        self.free, self.taken = [], []


def places(device: str | None, jobs: int | None, per_device: int) -> tuple[str, list[dict[str, str]]]:
    """The device that jobs are told, and the environment of each slot.

    Args:
        jobs: How many at a time; by default one on a CPU, and on cards as many as there are places.
        per_device: How many on a card at a time.

    Raises:
        GenkitError: A number makes no sense, or the device is not here.
    """
    from genkit.training.processes import pick_device

    for name, number in (("--jobs", jobs), ("--per-device", per_device)):
        if number is not None and number < 1:
            raise RecipeError(name, f"{number} trials at a time", "give a number from 1")
    chosen = pick_device(device)
    if not chosen.startswith("cuda"):
        if per_device > 1:
            raise HardwareError("--per-device", f"{chosen} is one device", "give --jobs")
        return chosen, [_threads(jobs)] * jobs if jobs and jobs > 1 else [{}]
    import torch

    known = os.environ.get("CUDA_VISIBLE_DEVICES")
    cards = [c.strip() for c in known.split(",")] if known else [str(i) for i in range(torch.cuda.device_count())]
    cards = [cards[int(chosen.partition(":")[2])]] if ":" in chosen else cards
    spread = [{"CUDA_VISIBLE_DEVICES": card} for _ in range(per_device) for card in cards]
    return "cuda", spread[:jobs]


def _threads(jobs: int) -> dict[str, str]:
    """An equal share of the cores that this process may use, unless the environment says otherwise."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores // jobs)))}
