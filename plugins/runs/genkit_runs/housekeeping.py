"""The store of runs: in what they differ, what they take, and what of them can go."""

from __future__ import annotations

import collections
import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from genkit.data import records
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


def recipes(found: Iterable[store.Summary]) -> Iterator[tuple[store.Summary, Flat]]:
    """Runs with their recipes; those whose recipe cannot be read are left out, and say so where they are used."""
    for s in found:
        with contextlib.suppress(CheckpointError):
            yield s, flat(store.recipe_file(s.folder))


def in_what(found: Iterable[tuple[store.Summary, Flat]]) -> dict[Path, str]:
    """In what the recipe of each run differs from the others of its name: "train.seed=1", at most three keys."""
    named: dict[str, dict[Path, Flat]] = {}
    for s, recipe in found:
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


@attrs.frozen(kw_only=True)
class Study:
    """A study as a line of a list: how many arms, seeds and states it has, and the folders of its trials."""

    folder: Path
    arms: int
    seeds: int
    state: str
    trials: frozenset[Path]


def studies() -> list[Study]:
    """All studies, by their folders' names."""
    return [_study(file) for file in sorted(store.root().glob("studies/*/study.json"))]


def _study(file: Path) -> Study:
    kept = records.read(file)
    trials = kept.get("trials", [])
    states = collections.Counter(trial.get("state", "") for trial in trials)
    return Study(
        folder=file.parent,
        arms=len(kept.get("arms", ())),
        seeds=len(kept.get("seeds", ())),
        state=", ".join(f"{n} {state}" for state, n in states.most_common()),
        trials=frozenset((store.root() / trial["folder"]).resolve() for trial in trials),
    )


def of_study(known: Iterable[Study], name: str) -> Study:
    """The study of a folder, of a name, or whose id begins so.

    Raises:
        DataError: There is none, or several.
    """
    known = list(known)
    exact = [s for s in known if name in (str(s.folder), s.folder.name, s.folder.name.rpartition("-")[0])]
    found = exact or [s for s in known if len(name) >= 3 and s.folder.name.rpartition("-")[2].startswith(name)]
    if len(found) != 1:
        offered = ", ".join(s.folder.name for s in (found or known)[:5])
        raise DataError(
            f"study {name!r}", "there are several" if found else "there is none", offered or "none was begun"
        )
    return found[0]


def lines(found: Iterable[store.Summary], known: Iterable[Study]) -> list[store.Summary | Study]:
    """Runs, with each study in place of its newest trial, and its others left out; a run of its own stays."""
    told: list[store.Summary | Study] = []
    known = list(known)
    for s in found:
        of = [study for study in known if s.trial and s.folder.resolve() in study.trials]
        told += [study for study in of if study not in told] if of else [s]
    return told


def studies_of(folder: Path) -> list[str]:
    """The studies that have a run as a trial."""
    return [study.folder.name for study in studies() if folder.resolve() in study.trials]


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
    those that are to stay, and with `aged` the folders that --fresh renamed. Runs that are running are left alone."""
    for folder in sorted(path.parent for path in store.root().glob("*/lock.json")):
        if store.holder(folder):
            continue
        if ".old" in folder.suffix:
            yield from [folder] if aged else []
            continue
        yield from half_written(folder)
        try:
            done = store.summary(folder).state == "done"
            every = store.recipe_file(folder).get("train", {}).get("keep_every_steps", 0)
            older = checkpoint.present(folder / "checkpoints")[:-1] if done else []
            found = [path for path in older if not checkpoint.stays(path, every)]
        except GenkitError:  # a damaged run keeps what it has
            continue
        yield from found


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
