"""What comes between a run and the world: signals, trackers, CPU threads."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from genkit import plugins
from genkit.errors import GenkitError, Stopped

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
def signals() -> Iterator[Signals]:
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


@attrs.define
class Hooks:
    """The plugins' lifecycle hooks of a run; one that fails is told once and left out from then on.

    A `GenkitError` of a hook ends the run: it is meant.
    """

    tell: Callable[..., None]
    failed: set[tuple[str, str]] = attrs.field(factory=set)

    def watched(self, name: str) -> bool:
        return bool(getattr(plugins.installed().manager.hook, name).get_hookimpls())

    def __call__(self, name: str, **what: Any) -> None:
        for impl in getattr(plugins.installed().manager.hook, name).get_hookimpls():
            if (name, impl.plugin_name) in self.failed:
                continue
            try:
                impl.function(*(what[argument] for argument in impl.argnames))
            except GenkitError:
                raise
            except Exception as error:  # whatever a plugin does wrong, the run goes on
                self.failed.add((name, impl.plugin_name))
                text = f"{name} of {impl.plugin_name.split(':')[0]} is left out: {type(error).__name__}: {error}"
                self.tell(event="notice", text=text)


@attrs.define
class Trackers:
    """The trackers of a run; one that fails is dropped, with a notice."""

    sessions: dict[str, Any]
    tell: Callable[..., None]

    def scalars(self, k: int, figures: dict[str, float]) -> None:
        self._each(lambda session: session.scalars(k, figures))

    def images(self, k: int, name: str, image: Tensor) -> None:
        self._each(lambda session: session.images(k, name, image))

    def close(self) -> None:
        self._each(lambda session: session.close())

    def _each(self, act: Callable[[Any], Any]) -> None:
        for name, session in list(self.sessions.items()):
            try:
                act(session)
            except Exception as error:  # whatever a tracker does wrong, the run goes on
                del self.sessions[name]
                self.tell(event="notice", text=f"tracker {name} is dropped: {type(error).__name__}: {error}")


@contextmanager
def trackers(
    components: dict[str, Any], folder: Path, recipe: dict[str, Any], tell: Callable[..., None]
) -> Iterator[Trackers]:
    opened = Trackers({}, tell)
    for name, component in components.items():
        try:
            opened.sessions[name] = component.open(folder, recipe)
        except Exception as error:  # as above
            tell(event="notice", text=f"tracker {name} is dropped: {type(error).__name__}: {error}")
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def threads(wanted: int | None, small: bool) -> Iterator[int]:
    """CPU threads while it lasts: as wanted, else one for small samples, else torch's choice.

    A small network gains nothing from a second thread, and on a busy machine can lose much.
    """
    before = torch.get_num_threads()
    count = wanted or (1 if small else before)
    torch.set_num_threads(count)
    try:
        yield count
    finally:
        torch.set_num_threads(before)
