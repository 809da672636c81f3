"""The launcher. `cluster/trouble` holds lines "WHEN WHAT", each of which happens once.

WHEN is a method, or "submitted", after jobs were taken and before anybody is told; WHAT is raise, refuse, kill (of who
submits), preempt (all jobs) or cancel (the newest study, by another process); anything else does nothing.
"""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import attrs

from genkit import cli
from genkit.errors import GenkitError
from genkit.kinds import setting

ROOT = Path("cluster")


@attrs.frozen(kw_only=True)
class Cluster:
    """A forked process for each job, known by a folder."""

    jobs: int = setting(2, "at a time")
    room: int = setting(6, "that run or wait")

    def build(self, setup):
        return Controller(self.jobs, self.room)


class Controller:
    pause = 0.0

    def __init__(self, slots, room):
        self.slots, self.room = slots, room
        ROOT.mkdir(exist_ok=True)

    def submit(self, name, jobs):
        self._meet("submit")
        handles = [f"{name}.{i}" for i in range(len(jobs))]
        for handle, job in zip(handles, jobs, strict=True):
            with suppress(FileExistsError):  # the same name again is a question
                (ROOT / handle).mkdir()
                told = {"argv": job.argv, "log": str(job.log), "tryout": job.tryout}
                (ROOT / handle / "job.json").write_text(json.dumps(told))
        with (ROOT / "calls").open("a") as calls:
            calls.write(f"{len(jobs)}\n")
        self._meet("submitted")
        return handles

    def poll(self, handles):
        self._meet("poll")
        found = {handle: self._state(handle) for handle in handles}
        for handle in [h for h, state in found.items() if state == "waits"]:
            if sum(state == "runs" for state in map(self._state, found)) < self.slots:
                self._start(handle)
        return {handle: self._state(handle) for handle in handles}

    def cancel(self, handles):
        self._meet("cancel")
        for handle in handles:
            if self._state(handle) == "waits":
                (ROOT / handle / "code").write_text("75")
            elif self._state(handle) == "runs":
                with suppress(ProcessLookupError):
                    os.kill(int((ROOT / handle / "pid").read_text()), signal.SIGTERM)

    def close(self):
        pass

    def _state(self, handle):
        here = ROOT / handle
        if not here.is_dir():
            return "gone"
        if (here / "code").is_file():
            return int((here / "code").read_text())
        return "runs" if (here / "pid").is_file() else "waits"

    def _start(self, handle):
        """Fork a watcher in a session of its own, and wait until its job has a number."""
        reading, writing = os.pipe()
        watcher = os.fork()
        if watcher:
            os.close(writing)
            os.read(reading, 1)
            os.close(reading)
            return
        os.close(reading)
        os.setsid()
        if os.fork():
            os._exit(0)
        self._watch(handle, writing)

    def _watch(self, handle, begun):
        from genkit.training.signals import SIGNALS
        from genkit_studies.worker import _call

        here = ROOT / handle
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        job = os.fork()
        if job == 0:
            os.close(begun)
            _call(json.loads((here / "job.json").read_text()))
        (here / "pid.new").write_text(str(job))
        (here / "pid.new").rename(here / "pid")
        os.write(begun, b".")
        code = os.waitstatus_to_exitcode(os.waitpid(job, 0)[1])
        (here / "code.new").write_text(str(code))
        (here / "code.new").rename(here / "code")
        os._exit(0)

    def _meet(self, when):
        path = ROOT / "trouble"
        lines = path.read_text().splitlines() if path.is_file() else []
        if here := next((line for line in lines if line.split()[0] == when), None):
            lines.remove(here)
            path.write_text("\n".join(lines))
            self._do(here.split()[1])

    def _do(self, what):
        if what == "raise":
            raise ConnectionError("Socket timed out on send/recv operation")
        if what == "refuse":
            raise GenkitError("cluster", "invalid partition", "name another")
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "cancel":
            if child := os.fork():
                os.waitpid(child, 0)
                return
            try:
                cli.main(["ablate", "cancel"])
            finally:
                os._exit(0)
        if what == "preempt":
            for path in ROOT.glob("*/pid"):
                if not (path.parent / "code").is_file():
                    with suppress(ProcessLookupError):
                        os.kill(int(path.read_text()), signal.SIGTERM)
