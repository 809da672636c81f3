"""Signals that a training heeds: noted when they come, acted upon once a step is saved."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from genkit.errors import Stopped

ONE = 1.0  # seconds within which signals are one: a scheduler tells all processes, and then so does who started this


@attrs.define
class Signals:
    """The signal that came, if one did, and when."""

    signal: int | None = None
    since: float = 0.0

    def stopped(self, folder: Path, k: int) -> Stopped:
        """What to raise once step k is saved."""
        number = signal.Signals(self.signal or signal.SIGTERM)
        code = 130 if number == signal.SIGINT else 75
        return Stopped(folder, f"{number.name} after step {k}; saved", "the same command resumes", code)


@contextmanager
def caught() -> Iterator[Signals]:
    """Note SIGTERM, SIGINT and SIGUSR1 for the loop to act on; a second one, not of the same second, leaves at once."""
    stop = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, frame: Any) -> None:
        if stop.signal is None:
            stop.signal, stop.since = number, time.monotonic()
        elif time.monotonic() - stop.since > ONE:
            os._exit(130)

    caught = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.signal(number, note) for number in caught}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
