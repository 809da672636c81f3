"""Nobody waits for ever: each process tells the others how far it is, and who keeps them waiting is named."""

from __future__ import annotations

import math
import os
import threading
import time
from contextlib import suppress
from typing import Any

from genkit.errors import HardwareError, tell

LOOKS = 10  # within which a process that lives has said something, on a busy machine, too
LONGER = 6  # times the limit for one that lives and is between steps: it may be saving or evaluating


class Watch(threading.Thread):
    """Ends this process, with a line, when another one has kept it waiting for longer than the limit.

    Torch's own time-outs name nobody, and NCCL's abort a process in the midst of C++. This thread tells its place by a
    store once a second, and looks at those of the others only where its own process has not moved for too long. Missing
    is who says nothing any more (stopped, or its machine is gone), or lives and is behind (it hangs). Meetings are
    counted where the host comes to them, so it is the same for gloo and NCCL.

    Attributes:
        k: The step.
        stepping: Whether it is being taken.
        meetings: How often this process has come to where all meet, `since` when it waits there, or works on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.k, self.stepping, self.meetings, self.since = 0, False, 0, 0.0
        self._limit, self._beats = math.inf, 0

    def begin(self, store: Any, rank: int, world: int, minutes: float) -> None:
        self._store, self._rank, self._limit = store, str(rank), 60 * minutes
        self._others = [str(other) for other in range(world) if other != rank]
        self.meet()
        self.start()

    def meet(self) -> None:
        self.meetings, self.since = self.meetings + 1, time.monotonic()

    def late(self, times: int = 1) -> bool:
        """Whether this process has not moved for so many times the limit."""
        return time.monotonic() - self.since > times * self._limit

    def run(self) -> None:
        main, first, looks = threading.main_thread(), dict[str, str](), 0
        with suppress(RuntimeError):  # who kept the store is gone: torch will notice
            while main.is_alive():
                main.join(min(1.0, self._limit / 20))
                self._beats += 1
                place = f"{self._beats} {self.meetings} {self.stepping}"
                self._store.set(self._rank, place if main.is_alive() else "left")  # the others may have more to do
                told = self._told() if self.late() else {}
                first, looks = (first or told, looks + 1) if told else ({}, 0)
                missing = [rank for rank, said in told.items() if said == first[rank] or self._behind(said)]
                if looks > LOOKS and missing:
                    self._end(missing)

    def _told(self) -> dict[str, str]:
        """What the others told last."""
        guard = threading.Timer(LOOKS, self._end, [["0"]])  # if the store does not answer, nor does who keeps it
        guard.start()
        try:
            told = {r: self._store.get(r).decode() if self._store.check([r]) else "0 0 True" for r in self._others}
        finally:
            guard.cancel()
        return {rank: said for rank, said in told.items() if said != "left"}

    def _behind(self, said: str) -> bool:
        _, meetings, stepping = said.split()
        return int(meetings) < self.meetings and self.late(1 if stepping == "True" else LONGER)

    def _end(self, missing: list[str]) -> None:
        who = f"rank{'s' * (len(missing) > 1)} {', '.join(missing)}"
        what = f"{who} did not come within {self._limit / 60:g} minutes (train.timeout_min)"
        hint = "see whether it, its machine or its disk hangs; the same command goes on from the last checkpoint"
        tell(HardwareError(f"step {self.k}", what, hint))
        try:
            self._store.set(self._rank, "left")  # lest the one that hangs misses this one
        finally:
            os._exit(HardwareError.exit_code)  # the main thread may be in C++, where no exception reaches it


WATCH = Watch()
