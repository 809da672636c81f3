"""The store of runs: in what they differ, what they take, and what of them can go."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from genkit.errors import CheckpointError, DataError, GenkitError
from genkit.runs import store
from genkit.training import checkpoint

Flat = dict[str, Any]
ASIDE = ("name", "genkit", "evaluate", "metrics", "trackers")  # what no weights depend on


def flat(tree: Mapping[str, Any], above: str = "") -> Flat:
    """A recipe as one row: {"train.seed": 0, "loss.use": "l2"}."""
    found: Flat = {}
    for name, value in tree.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return found


def differing(rows: Iterable[Flat]) -> list[str]:
    """The keys that not all rows have alike, components first."""
    rows = list(rows)
    keys = dict.fromkeys(key for row in rows for key in row)
    apart = [key for key in keys if any(row.get(key) != rows[0].get(key) for row in rows)]
    return sorted(apart, key=lambda key: not key.endswith(".use"))


def in_what(found: Iterable[store.Summary]) -> dict[Path, str]:
    """In what each run differs from the others of its name: "train.seed=1", at most three keys."""
    named: dict[str, dict[Path, Flat]] = {}
    for s in found:
        with contextlib.suppress(CheckpointError):  # it says so itself where it is used
            recipe = flat(store.recipe_file(s.folder))
            named.setdefault(s.name, {})[s.folder] = {k: v for k, v in recipe.items() if k.split(".")[0] not in ASIDE}
    told = {}
    for rows in named.values():
        keys = differing(rows.values())
        for folder, row in rows.items():
            shown = [f"{key}={row.get(key, '-')}" for key in keys[:3]] + ["…"] * (len(keys) > 3)
            told[folder] = " ".join(shown)
    return told


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def studies_of(folder: Path) -> list[str]:
    """The studies that have a run as a trial."""
    found = []
    for file in sorted(store.root().glob("studies/*/study.json")):
        trials = store.read(file).get("trials", [])
        if any((store.root() / trial["folder"]).resolve() == folder.resolve() for trial in trials):
            found.append(file.parent.name)
    return found


def removable(folder: Path, force: bool = False) -> None:
    """Refuse to remove what is in use.

    Raises:
        GenkitError: The run is running, or a study has it as a trial and `force` is not given.
    """
    if who := store.holder(folder):
        raise CheckpointError(folder, f"is in use by {who}", "stop it first")
    if not force and (users := studies_of(folder)):
        raise DataError(folder, f"is a trial of study {users[0]}", "--force removes it all the same")


def half_written(folder: Path) -> list[Path]:
    """What a run that was killed left behind; of one that is running, also what it is writing."""
    return [path for kind in (".tmp-*", ".trash-*") for path in sorted((folder / "checkpoints").glob(kind))]


def superseded(aged: bool = False) -> Iterator[Path]:
    """What can be made again or was left behind: half-written files, checkpoints of finished runs but the last and
    the best, and with `aged` the folders that --fresh renamed. Runs that are running are left alone."""
    for folder in sorted(path.parent for path in store.root().glob("*/lock.json")):
        if store.holder(folder):
            continue
        if ".old" in folder.suffix:
            yield from [folder] if aged else []
            continue
        checkpoints = folder / "checkpoints"
        yield from half_written(folder)
        try:
            state, best = store.summary(folder).state, checkpoint.best(checkpoints).get("k")
        except GenkitError:  # a damaged run keeps what it has
            continue
        if state == "done":
            yield from (p for p in checkpoint.present(checkpoints)[:-1] if checkpoint.step_of(p) != best)


def remove(paths: Iterable[Path], told: Callable[[Path, int], None] = lambda path, size: None) -> int:
    """Remove files and folders; bytes that are free now.

    Raises:
        CheckpointError: One cannot be removed.
    """
    total = 0
    for path in paths:
        bytes_ = size(path)
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError as error:
            hint = "it needs a disk that can be written, and rights in the folder above"
            raise CheckpointError(path, f"cannot be removed ({error.strerror})", hint) from error
        told(path, bytes_)
        total += bytes_
    return total
