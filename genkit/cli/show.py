"""Tables and progress for people: rich on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TextIO

from genkit.cli import streams
from genkit.kernel import discovery
from genkit.kinds import Event, Watch

if TYPE_CHECKING:
    from rich.table import Table


def table(rows: Sequence[Sequence[str]], file: TextIO | None = None) -> None:
    """A header and rows, on stdout or another file."""
    to = file or sys.stdout
    if not to.isatty():
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), file=to)
        return
    from rich.console import Console

    Console(file=to).print(drawn(rows))


def drawn(rows: Sequence[Sequence[str]]) -> Table:
    """A header and rows, for a terminal."""
    from rich.table import Table
    from rich.text import Text

    made = Table(header_style="bold", box=None, pad_edge=False)
    for i, name in enumerate(rows[0]):
        made.add_column(name, justify="left" if i == 0 else "default", overflow="fold")
    for row in rows[1:]:
        made.add_row(*(Text(cell) for cell in row))
    return made


def as_json(value: Any) -> None:
    """One document on stdout."""
    print(json.dumps(value, indent=1, default=str))


def say(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def results(kept: str) -> Iterator[None]:
    """Results that are told after work whose outcome is kept elsewhere: not telling them is no failure of the work."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        streams.abandon()
        if not isinstance(error, BrokenPipeError):
            say(f"note: stdout: {error.strerror}; what was to be told is in {kept}")


@contextmanager
def progress() -> Iterator[Watch]:
    """A watcher of a run's events: a plugin's, if there is a terminal, else a plain line now and then.

    While it lasts, whatever else is written to stdout goes to stderr.
    """
    live = discovery.installed().manager.hook.genkit_progress(stream=sys.stderr)
    with discovery.off_stdout(), live or nullcontext(_Plain()) as watch:
        yield watch


def clock(seconds: float) -> str:
    """h:mm:ss."""
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{s:02d}"


def _figures(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {_number(value)}" for name, value in figures.items())


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) < 1e6 and value == int(value) else f"{value:.3g}"


class _Plain:
    def __init__(self, every: float = 5.0) -> None:
        self.every, self.last, self.steps = every, -1e9, 0

    def __call__(self, event: Event) -> None:
        kind = event["event"]
        if kind in ("start", "resume"):
            self.steps = event["steps"]
            say(f"{kind} at step {event['k']} of {event['steps']}")
        elif kind == "notice":
            say(f"note: {event['text']}")
        elif kind == "evaluated":
            from genkit.evaluation import results

            figures = {name: value for name, value in event["figures"].items() if not results.is_floor(name)}
            say(f"evaluated at step {event['k']}: {_figures(figures)}")
        elif kind in ("step", "sampling") and time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            say(line(event, self.steps))


def line(event: Event, steps: int) -> str:
    """A step, or a sampling's progress, in words."""
    if event["event"] == "sampling":
        left = "" if event["left_sec"] is None else f"  {clock(event['left_sec'])} left"
        return f"{event['what']} {event['done']}/{event['total']}{left}"
    rate, left = f"{event['images_per_sec']:.0f} img/s", clock(event["left_sec"] or 0)
    return f"step {event['k']}/{steps}  {_figures(event['figures'])}  {rate}  {left} left"
