"""What the folder of one run tells; whatever it lacks is left out, and whatever cannot be read is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genkit.data import records
from genkit.errors import GenkitError
from genkit.evaluation.results import Table, finite
from genkit.runs import store


@dataclass
class History:
    """What a run folder tells. `steps` and `evaluated` hold what still counts after the last resume."""

    folder: Path
    text: str = ""
    recipe: Table = field(default_factory=dict)
    lock: Table = field(default_factory=dict)
    evaluations: dict[str, Table] = field(default_factory=dict)
    steps: dict[int, Table] = field(default_factory=dict)
    evaluated: dict[tuple[str, int], Table] = field(default_factory=dict)
    resumes: list[int] = field(default_factory=list)
    moments: list[tuple[object, str]] = field(default_factory=list)
    state: str = "unfinished"
    seconds: float | None = None
    problems: list[str] = field(default_factory=list)


def _load(read: Callable[[Path], dict[str, Any]], path: Path, problems: list[str]) -> dict[str, Any]:
    """A file's mapping; `{}` if there is none yet, or with a problem noted if it cannot be read."""
    try:
        return read(path) if path.exists() else {}
    except GenkitError as error:
        problems.append(f"{path.name} {error.what}")
    return {}


def _events(path: Path, problems: list[str]) -> Iterator[dict[str, Any]]:
    """The events; a torn last line is what a killed run leaves, any other broken line is a problem."""
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            event = None
            if number < len(lines):
                problems.append(f"events.jsonl, line {number}, cannot be read")
        if isinstance(event, dict):
            yield event


def read(folder: Path) -> History:
    """What the run in `folder` tells; missing and torn files leave gaps."""
    history = History(folder)
    path = folder / "recipe.toml"
    history.text = path.read_text("utf-8", "replace") if path.is_file() else ""
    history.recipe = _load(lambda path: store.recipe_file(path.parent), path, history.problems)
    history.lock = _load(records.read, folder / "lock.json", history.problems)
    for path in sorted(folder.glob("evaluations/*.json")):
        history.evaluations[path.stem] = _load(records.read, path, history.problems)
    events = list(_events(folder / "events.jsonl", history.problems))
    for event in events:
        _tell(history, event)
    history.seconds = _seconds(events)
    return history


def _tell(history: History, event: Table) -> None:
    """Adds one event. A start or resume at k forgets what came after k: those weights are gone."""
    name, k = event.get("event"), event.get("k")
    k = k if isinstance(k, int) and finite(k) is not None else None
    if name in ("start", "resume") and k is not None:
        history.state = "unfinished"
        history.steps = {j: e for j, e in history.steps.items() if j <= k}
        history.evaluated = {at: e for at, e in history.evaluated.items() if at[1] <= k}
    if name == "step" and k is not None:
        history.steps[k] = dict(event)
    elif name == "evaluated" and k is not None:
        history.evaluated[str(event.get("protocol", "")), k] = dict(event)
    elif name == "resume" and k is not None:
        history.resumes.append(k)
        history.moments.append((event.get("time"), f"resumed at step {k}"))
    elif name == "notice":
        history.moments.append((event.get("time"), str(event.get("text", ""))))
    elif name == "end":
        history.state = str(event.get("outcome", "ended"))
        history.moments.append((event.get("time"), history.state if k is None else f"{history.state} at step {k}"))


def _seconds(events: list[dict[str, Any]]) -> float | None:
    """How long training took: the last `elapsed`, or, if it was resumed, the sum over its sessions by the clock.

    The clock runs from each start to its last step: what is evaluated days later is no training.
    """
    told = [e for e in events if e.get("event") in ("start", "resume", "step")]
    if not any(e["event"] == "resume" for e in told):
        return next((s for e in reversed(events) if (s := finite(e.get("elapsed"))) is not None), None)
    sessions: list[list[float]] = [[]]
    for event in told:
        if event["event"] in ("start", "resume"):
            sessions.append([])
        if (now := finite(event.get("time"))) is not None:
            sessions[-1].append(now)
    return sum(max(times) - min(times) for times in sessions if times)
