"""Run folders: where they are, who holds them, what happened in them."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any, cast

import attrs

from genkit.data import atomic, records
from genkit.errors import CheckpointError, DataError, GenkitError
from genkit.evaluation import results
from genkit.kernel import discovery
from genkit.kernel.recipe import Recipe
from genkit.kinds import Event, closest
from genkit.training import checkpoint


def root() -> Path:
    """Where runs are kept: `$GENKIT_RUNS`, else `runs` in the working directory."""
    return Path(os.environ.get("GENKIT_RUNS", "runs"))


def event(folder: Path, **what: Any) -> Event:
    """Append a line to events.jsonl.

    Raises:
        DataError: It cannot be written.
    """
    line, path = {**what, "time": round(time.time(), 3)}, folder / "events.jsonl"
    text = json.dumps(line).encode() + b"\n"
    try:
        with path.open("ab+") as file:
            torn = file.tell() > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
            file.write(b"\n" * torn + text)
    except OSError as error:
        raise atomic.unwritable(path, error, len(text)) from error
    return cast(Event, line)


def events(folder: Path) -> list[dict[str, Any]]:
    """What happened, in order; a line that a kill tore is left out."""
    found = []
    path = folder / "events.jsonl"
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        with suppress(ValueError, RecursionError):
            found.append(json.loads(line))
    return [told for told in found if isinstance(told, dict)]


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a run folder: one run, one process.

    Raises:
        CheckpointError: Another process holds it, by host and pid; or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        opened = (folder / ".lock").open("a+")
    except OSError as error:
        hint = "copy the folder to where it can be; `genkit sample` only needs --out"
        raise CheckpointError(folder, f"cannot be written ({error.strerror})", hint) from error
    with opened as file:
        if not _locked(file):
            file.seek(0)
            who = file.read().strip() or "another process"
            raise CheckpointError(folder, f"is in use by {who}", "wait for it, or stop it")
        file.truncate(0)
        file.write(f"{socket.gethostname()} pid {os.getpid()}")
        file.flush()
        with lease(folder / ".lease"):
            yield


def lease(path: Path) -> AbstractContextManager[None]:
    """What holds for other machines, too, where locks of files do not; it may say who has it, as `holder`."""
    return discovery.installed().manager.hook.genkit_lease(path=path) or nullcontext()


def _locked(file: IO[str], how: int = fcntl.LOCK_EX, waits: tuple[float, ...] = (0.0, 0.01, 0.05, 0.1)) -> bool:
    """Whether the lock was to be had; asked again for a moment, since `holder` has it while it looks."""
    for wait in waits:
        time.sleep(wait)
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        except OSError:  # a disk without locks: a lease tells
            pass
        return True
    return False


def holder(folder: Path) -> str:
    """Who holds a run folder, host and pid; empty if nobody does."""
    with suppress(FileNotFoundError), (folder / ".lock").open() as file:
        if not _locked(file, fcntl.LOCK_SH, waits=(0.0,)):
            return file.read().strip() or "another process"
    return str(getattr(lease(folder / ".lease"), "holder", ""))


@attrs.frozen(kw_only=True)
class Summary:
    """A run at a glance; `apart` says of its figures in what they differ from those that its recipe asks for."""

    folder: Path
    name: str
    id: str
    state: str
    k: int
    steps: int
    figures: dict[str, dict[str, float]]
    apart: str
    trial: bool
    created: float


def summary(folder: Path) -> Summary:
    """What a run folder holds; its state is done, diverged, preempted, running, stopped or new."""
    lock = records.read(folder / "lock.json")
    last: dict[str, Any] = next(
        (e for e in reversed(events(folder)) if e.get("event") in ("end", "start", "resume")), {}
    )
    newest = checkpoint.present(folder / "checkpoints")
    k, steps = checkpoint.step_of(newest[-1]) if newest else 0, lock.get("steps", 0)
    state = last.get("outcome") or ("running" if holder(folder) else "stopped" if newest else "new")
    shown = next(iter(evaluations(folder)), {})
    figures = {n: row["figures"] for n, row in shown.get("steps", {}).items()}
    return Summary(
        folder=folder,
        name=lock.get("name", folder.name),
        id=lock.get("id", ""),
        state=state,
        k=k,
        steps=steps,
        figures=figures,
        apart=shown.get("apart", ""),
        trial=bool(lock.get("trial")),
        created=float(lock.get("created", 0.0)),
    )


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """The evaluations of a run, the one that its recipe asks for first; `apart` tells in what others differ from it.

    Where the lock does not name that one, as those of older runs do not, it is the one of the most samples.
    """
    found = {file.stem: records.read(file, records.ANEW) for file in sorted((folder / "evaluations").glob("*.json"))}
    ordered = sorted(found, key=lambda name: found[name].get("protocol", {}).get("samples", 0), reverse=True)
    asked = records.read(folder / "lock.json").get("evaluation") or next(iter(ordered), "")
    ordered.sort(key=lambda name: name != asked)
    return [{**found[name], "apart": results.apart(found[name], found.get(asked, {}))} for name in ordered]


def runs(damaged: Callable[[str], None] = lambda text: None) -> list[Summary]:
    """All runs, newest first.

    Args:
        damaged: Told of each folder that cannot be read, which is left out.
    """
    found = []
    for folder in sorted(path.parent for path in root().glob("*/lock.json")):
        try:
            found.append(summary(folder))
        except (GenkitError, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
            damaged(f"{folder} is passed over: {error}")
    return sorted(found, key=lambda s: s.created, reverse=True)


def find(run: str | Path) -> Path:
    """A run folder by path, name, the beginning of its id, or `latest`.

    Raises:
        DataError: There is none, or several.
    """
    path = Path(run)
    if (path / "lock.json").is_file():
        return path
    known = runs()
    if str(run) == "latest" and known:  # an arm of a study only where there is nothing else
        return min(known, key=lambda s: s.trial).folder
    named = [s for s in known if str(run) == s.folder.name or (str(run) == s.name and not s.trial)]
    found = named or [s for s in known if len(str(run)) >= 3 and s.id.startswith(str(run))]
    if len(found) == 1:
        return found[0].folder
    if found:
        several = f"is {len(found)} runs: {', '.join(s.folder.name for s in found[:5])}"
        raise DataError(f"run {str(run)!r}", several, "name one by its folder or id")
    near = closest(str(run), {"latest"}.union(*((s.name, s.folder.name) for s in known)))
    raise DataError(f"run {str(run)!r}", f"there is none in {root()}", near or "`genkit runs list` shows them")


def weights_in(path: Path) -> list[Path]:
    """The files of weights of a model that is no run: the file itself, or those of a folder."""
    if path.suffix == ".safetensors" or path.is_file():
        return [path]
    return [] if (path / "lock.json").exists() else sorted(path.rglob("*.safetensors"))


def keep_recipe(path: Path, recipe: Recipe) -> None:
    """Write a resolved recipe, with what plugins want beside it.

    Raises:
        DataError: It cannot be written.
    """
    atomic.write(path, recipe.toml())
    discovery.installed().manager.hook.genkit_recipe_kept(path=path, recipe=recipe)


def recipe_file(folder: Path) -> dict[str, Any]:
    """The resolved recipe of a run.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    path = folder / "recipe.toml"
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(path, "is missing or damaged", "run the recipe again") from error
