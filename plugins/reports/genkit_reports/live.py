"""Progress of a run while it goes on: a bar on a terminal, and one in a notebook's cell."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from html import escape
from typing import Any, TextIO

from genkit.cli import show
from genkit.kinds import Event, Watch

WIDE = 240  # pixels of a bar in a cell


def progress(stream: TextIO) -> AbstractContextManager[Watch] | None:
    """A watcher for the notebook, or the terminal that a stream goes to; None where there is neither."""
    return in_cell() if in_notebook() else on_terminal(stream) if stream.isatty() else None


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    from_ipython = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(from_ipython, "kernel", None) is not None


class Counted:
    """What of a run's events a bar shows: how much is done, of how much, and a line about it."""

    def __init__(self) -> None:
        self.steps, self.done, self.total, self.text = 0, 0, 0, "starting"

    def __call__(self, event: Event) -> None:
        kind = event["event"]
        if kind in ("start", "resume"):
            self.steps = self.total = event["steps"]
            self.done = event["k"]
        elif kind in ("step", "sampling"):
            self.done, self.total = (event["k"], self.steps) if kind == "step" else (event["done"], event["total"])
            self.text = show.line(event, self.steps)


@contextmanager
def on_terminal(stream: TextIO) -> Iterator[Watch]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(10), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=Console(file=stream), transient=True) as live:
        counted, task = Counted(), live.add_task("", total=None, text="starting")

        def watch(event: Event) -> None:
            counted(event)
            if event["event"] == "notice":
                live.console.print(f"note: {event['text']}", markup=False)
            elif counted.total:
                live.update(task, total=counted.total, completed=counted.done, text=counted.text)

        yield watch


@contextmanager
def in_cell() -> Iterator[Watch]:
    """A bar that goes when the run has ended; notes stay."""
    with cell() as draw:
        counted, notes = Counted(), list[str]()

        def watch(event: Event) -> None:
            counted(event)
            notes.extend([f"note: {event['text']}"] if event["event"] == "notice" else [])
            draw(bar(counted.done, counted.total, counted.text) + _lines(notes))

        yield watch
        draw(_lines(notes))


@contextmanager
def cell() -> Iterator[Any]:
    """A function that puts HTML below the cell that runs, each time in place of what it put there before."""
    from IPython.display import HTML, display  # there is one, as this is its kernel

    handle = display(HTML(""), display_id=True)
    yield lambda html: handle.update(HTML(html))


def bar(done: float, total: float, text: str) -> str:
    """A bar and a line, as HTML."""
    return f'<progress value="{done}" max="{total or 1}" style="width:{WIDE}px"></progress> {escape(text)}'


def _lines(notes: list[str]) -> str:
    return "".join(f"<div>{escape(note)}</div>" for note in notes)
