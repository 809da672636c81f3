"""A study: arms that differ in what one asks about, a trial for each arm and seed, and what they came to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from genkit.data import atomic, records
from genkit.errors import DataError
from genkit.kernel import discovery
from genkit.kernel.loading import resolved
from genkit.kernel.recipe import Recipe
from genkit.kernel.tables import Layers
from genkit.kernel.toml import Place, Places, hoist
from genkit.runs import store

FORMAT = 1
KEPT = ("name", "id", "design", "metric", "seeds", "looks", "planned", "measured")
AGAIN = "give the same `genkit ablate` again"
STATES = ("todo", "queued", "running", "done", "diverged", "crashed", "out-of-memory", "preempted")


@attrs.frozen(kw_only=True)
class Arm:
    """One recipe of a study.

    Attributes:
        label: Its name in tables.
        changes: What it changes of the baseline, a line each: "loss: pseudo-huber -> l2"; none for the baseline.
    """

    label: str
    changes: tuple[str, ...] = ()
    recipe: Recipe


@attrs.frozen(kw_only=True)
class Trial:
    """One arm with one seed: a run of the store.

    Attributes:
        arm: The label of its arm.
        folder: The run folder, there or still to be made.
        id: That of the run; trials of several studies that have the same are one run.
        state: One of `STATES`. Queued waits for a machine, diverged is a result; todo, preempted, crashed and
            out-of-memory are not done.
        figures: Such as {"fd.fd@1": 0.7}; empty unless it is done.
        by_seed: Of each figure, that of every evaluation seed; empty where there was one.
        trained: Whether its last checkpoint is there, so that what it lacks is an evaluation.
        seconds: What its training took, over all sessions, and the evaluation that `figures` are of; 0 if not begun.
        evaluation: The part of that evaluation in it.
        images_per_sec: Of its training, by the mean time for an image; 0 before.
        memory: The most bytes that its training held at a time.
        reason: One line on why it is not done.
    """

    arm: str
    seed: int
    folder: Path
    id: str
    state: str = attrs.field(default="todo", validator=attrs.validators.in_(STATES))
    figures: Mapping[str, float] = attrs.field(factory=dict)
    by_seed: Mapping[str, Sequence[float]] = attrs.field(factory=dict)
    trained: bool = False
    seconds: float = 0.0
    evaluation: float = 0.0
    images_per_sec: float = 0.0
    memory: int = 0
    reason: str = ""


@attrs.frozen(kw_only=True)
class Study:
    """What is compared, and how far it is. What it is, is its name and its baseline: all else is added to it.

    Attributes:
        folder: `studies/<name>-<id>` under the runs root; `study.json` and the tables are there.
        metric: The figure that it is about, such as "fd.fd@1"; empty if none was named.
        arms: The baseline first.
        trials: Arm by arm, each with its seeds in order.
        looks: How many seeds were complete whenever a verdict was told; each has spent some of its error.
        planned: The seeds that it was meant to have when it was first looked at; 0 before.
        measured: By arm, what its try-out found.
        notices: What is to be said of how it has grown; not kept.
    """

    name: str
    id: str
    folder: Path
    design: str
    metric: str = ""
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    trials: tuple[Trial, ...]
    looks: tuple[int, ...] = ()
    planned: int = 0
    measured: Mapping[str, Mapping[str, float]] = attrs.field(factory=dict)
    notices: tuple[str, ...] = ()

    def of(self, arm: Arm) -> tuple[Trial, ...]:
        """The trials of an arm, in order of the seeds."""
        return tuple(trial for trial in self.trials if trial.arm == arm.label)

    def arm(self, trial: Trial) -> Arm:
        return next(arm for arm in self.arms if arm.label == trial.arm)

    def _repr_html_(self) -> str:
        html: str = discovery.installed().manager.hook.genkit_html(result=self)
        return html


# ---- studies in the store ------------------------------------------------------------------------


def save(study: Study) -> None:
    """Write `study.json`, whole or not at all, a line for each trial; folders of runs are told from the runs root."""
    told = {
        "format": FORMAT,
        **{name: getattr(study, name) for name in KEPT},
        "arms": [{"label": a.label, "changes": a.changes, "recipe": a.recipe.tree()} for a in study.arms],
    }
    trials = ",\n  ".join(json.dumps({**attrs.asdict(t), "folder": _told(t.folder)}) for t in study.trials)
    head = json.dumps(told, indent=1).removesuffix("\n}")
    atomic.write(study.folder / "study.json", f'{head},\n "trials": [\n  {trials}\n ]\n}}')


def load(folder: Path) -> Study:
    """A study as it was last saved.

    Raises:
        GenkitError: There is none, it is damaged, or plugins of its recipes are gone.
    """
    path = folder / "study.json"
    if not path.is_file():
        raise DataError(folder, "holds no study", "`genkit ablate` makes one")
    known = records.read(path, AGAIN)
    try:
        arms = [arm_of(a, path) for a in known["arms"]]
        trials = [Trial(**{**t, "folder": store.root() / t["folder"]}) for t in known["trials"]]
        plain = {name: known[name] for name in ("name", "id", "design", "metric")}
        looks = {
            "looks": tuple(known.get("looks", ())),
            "planned": known.get("planned", 0),
            "measured": known.get("measured", {}),
        }
        seeds = tuple(known["seeds"])
        return Study(folder=folder, **plain, arms=tuple(arms), seeds=seeds, trials=tuple(trials), **looks)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(path, f"is damaged ({error!r})", AGAIN) from error


def studies() -> list[Path]:
    """Folders of all studies, the newest first."""
    found = store.root().glob("studies/*/study.json")
    return [path.parent for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]


def find(study: str | Path) -> Path:
    """A study's folder by path, name, the beginning of its id, or `latest`.

    Raises:
        DataError: There is none, or several.
    """
    if (Path(study) / "study.json").is_file():
        return Path(study)
    known, wanted = studies(), str(study)
    if wanted == "latest" and known:
        return known[0]
    by_name = [f for f in known if wanted in (f.name, f.name.rpartition("-")[0])]
    found = by_name or [f for f in known if len(wanted) >= 3 and f.name.rpartition("-")[2].startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if found:
        several = f"is {len(found)} studies: {', '.join(f.name for f in found[:5])}"
        raise DataError(f"study {wanted!r}", several, "name one by its folder or id")
    offered = ", ".join(f.name for f in known[:5])
    raise DataError(f"study {wanted!r}", f"there is none in {store.root() / 'studies'}", offered or "none was begun")


def _told(folder: Path) -> str:
    root = store.root()
    return str(folder.relative_to(root) if folder.is_relative_to(root) else folder.absolute())


def arm_of(kept: Mapping[str, Any], path: Path) -> Arm:
    """An arm as `study.json` keeps it.

    Raises:
        GenkitError: Its recipe is none any more, for instance as a plugin is gone.
    """
    places = Places({(name,): Place(str(path), None, path.parent) for name in kept["recipe"]})
    recipe = resolved(Layers(hoist(kept["recipe"], str(path)), places, set()))
    return Arm(label=kept["label"], changes=tuple(kept["changes"]), recipe=recipe)


# ---- for people and programs ---------------------------------------------------------------------


def states(trials: Sequence[Trial]) -> str:
    """How far an arm is, in words: "done", or "1 done, 2 diverged"."""
    counts = {state: sum(t.state == state for t in trials) for state in STATES}
    there = {state: n for state, n in counts.items() if n}
    return next(iter(there)) if len(there) == 1 else ", ".join(f"{n} {state}" for state, n in there.items())


def counted(study: Study) -> str:
    """Its size in words: "2 arms, seeds 0, 1: 4 trials"; many seeds are counted."""
    many = len(study.seeds) > 10
    seeds = (
        f"{len(study.seeds)} seeds"
        if many
        else f"seed{'s' * (len(study.seeds) > 1)} {', '.join(map(str, study.seeds))}"
    )
    return f"{len(study.arms)} arms, {seeds}: {len(study.trials)} trials"


def as_plain(study: Study) -> dict[str, Any]:
    """For programs."""
    return {
        **{name: getattr(study, name) for name in ("name", "id", "design", "metric", "seeds")},
        "folder": str(study.folder),
        "arms": [{"label": a.label, "changes": a.changes} for a in study.arms],
        "trials": [{**attrs.asdict(t), "folder": str(t.folder)} for t in study.trials],
    }
