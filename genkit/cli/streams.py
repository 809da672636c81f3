"""Standard streams that may be closed, full or left by their reader: telling is never a part of the work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Dropping:
    """A text stream that drops what it cannot write; `lost` is why, once something was dropped."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.lost = stream, ""

    def write(self, text: str) -> int:
        self._try(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def _try(self, act: Callable[..., object], *given: str) -> None:
        try:
            act(*given)
        except (OSError, ValueError, RuntimeError) as error:  # the last where a signal comes upon writing, and writes
            self.lost = self.lost or str(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def prepare() -> None:
    """Open what is closed, so that no other file gets its number, and have stderr drop what it cannot write."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - for as long as the program runs
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    if not isinstance(sys.stderr, Dropping):
        sys.stderr = Dropping(sys.stderr)


def lost() -> str:
    """Why something could not be told on stderr; empty if all was."""
    return str(getattr(sys.stderr, "lost", ""))


def abandon() -> None:
    """Have nothing more be written to stdout, whose reader left or which is full."""
    with suppress(OSError):  # which has no number where a program gave its own
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
