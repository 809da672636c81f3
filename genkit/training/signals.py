"""Signals: what ends a program in good order, and what a training heeds once a step is saved."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genkit.errors import Left, Stopped, tell

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
ONE = 1.0  # seconds within which signals are one: a scheduler tells all processes, and then so does who started this
AGAIN = 0.05  # seconds until leaving is tried once more


class Signals:
    """The signal that came, if one did, and when."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.since = 0.0

    def stopped(self, folder: Path, k: int) -> Stopped:
        """What to raise once step k is saved."""
        number = signal.Signals(self.signal or signal.SIGTERM)
        return Stopped(folder, f"{number.name} after step {k}; saved", "the same command resumes", code_of(number))


_early = Signals()  # what came before anybody heeded it


def code_of(number: int) -> int:
    """What a program leaves with that a signal ended: 130 where a person interrupted it, else 75, resume me."""
    return 130 if number == signal.SIGINT else 75


@contextmanager
def heard() -> Iterator[None]:
    """From here on signals end the program by `Left`, but for those that it was started to ignore, as nohup does.

    After a signal, whatever error ends what is done within becomes `Left`: that may have been taken, on its way, for a
    fault of whose code it came upon.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    signal.signal(signal.SIGALRM, _leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # who started this may have held them back until here
    try:
        yield
    except BaseException:
        leave()
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _early.signal = None  # that program is over


def leave() -> None:
    """Where it is safe to leave: if a signal came before anybody heeded it, the program ends.

    Raises:
        Left: One came.
    """
    if _early.signal is not None:
        raise Left(code_of(_early.signal))


def _leave(number: int, frame: Any) -> None:
    """Leave, but not in the middle of an import, whose C code swallows exceptions and leaves modules half made.

    The alarm tries again, then, and wherever else the exception was swallowed; `leave` does at points of its own.
    """
    if number != signal.SIGALRM and _early.signal is None:
        _early.signal = number
        tell(f"{signal.Signals(number).name}; nothing is lost, the same command goes on", code_of(number))
    signal.setitimer(signal.ITIMER_REAL, AGAIN)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return
        frame = frame.f_back
    leave()


@contextmanager
def caught(last_words: Callable[[], object] = lambda: None) -> Iterator[Signals]:
    """Note signals for a loop to act on, one that came before, too; a second one, after a second, leaves at once.

    Args:
        last_words: Called where it leaves at once, which is told.
    """
    stop = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, frame: Any) -> None:
        if stop.signal is None:
            stop.signal, stop.since = number, time.monotonic()
        elif time.monotonic() - stop.since > ONE:
            try:
                last_words()
                name = signal.Signals(number).name
                tell(f"{name}, a second signal; left at once, the same command goes on", code_of(number))
            finally:
                os._exit(code_of(number))

    noted = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in noted}
    signal.setitimer(signal.ITIMER_REAL, 0)
    if _early.signal is not None:
        note(_early.signal, None)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
