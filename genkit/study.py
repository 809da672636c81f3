"""A study: arms that differ in what one asks about, a trial for each arm and seed, and what they came to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from genkit import experiment, record
from genkit.errors import DataError, Diverged, GenkitError, RecipeError, Stopped
from genkit.recipe import Recipe, load_recipe, resolved
from genkit.resolve import stop
from genkit.tables import Layers, Place, Places, hoist

FORMAT = 1
QUICK_START = "ict_digits"
STATES = ("todo", "running", "done", "diverged", "crashed", "out-of-memory", "preempted")


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
        state: One of `STATES`. Diverged is a result; todo, preempted, crashed and out-of-memory are not done.
        figures: Such as {"fd.fd@1": 0.7}; empty unless it is done.
        seconds: What training and evaluation took, over all sessions; 0 if not begun.
        reason: One line on why it is not done.
    """

    arm: str
    seed: int
    folder: Path
    id: str
    state: str = attrs.field(default="todo", validator=attrs.validators.in_(STATES))
    figures: Mapping[str, float] = attrs.field(factory=dict)
    seconds: float = 0.0
    reason: str = ""


@attrs.frozen(kw_only=True)
class Study:
    """What is compared, and how far it is.

    Attributes:
        folder: `studies/<name>-<id>` under the runs root; `study.json` and the tables are there.
        metric: The figure that it is about, such as "fd.fd@1"; empty if none was named.
        arms: The baseline first.
        trials: Arm by arm, each with its seeds in order.
    """

    name: str
    id: str
    folder: Path
    design: str
    metric: str = ""
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    trials: tuple[Trial, ...]

    def of(self, arm: Arm) -> tuple[Trial, ...]:
        """The trials of an arm, in order of the seeds."""
        return tuple(trial for trial in self.trials if trial.arm == arm.label)


# ---- studies in the store ------------------------------------------------------------------------


def save(study: Study) -> None:
    """Write `study.json`, whole or not at all; folders of runs are told from the runs root."""
    whole = {
        "format": FORMAT,
        **{name: getattr(study, name) for name in ("name", "id", "design", "metric", "seeds")},
        "arms": [{"label": a.label, "changes": a.changes, "recipe": a.recipe.tree()} for a in study.arms],
        "trials": [{**attrs.asdict(t), "folder": _told(t.folder)} for t in study.trials],
    }
    record.write(study.folder / "study.json", json.dumps(whole, indent=1))


def load(folder: Path) -> Study:
    """A study as it was last saved.

    Raises:
        GenkitError: There is none, it is damaged, or plugins of its recipes are gone.
    """
    path = folder / "study.json"
    if not path.is_file():
        raise DataError(folder, "holds no study", "`genkit ablate` makes one")
    known = record.read(path)
    try:
        arms = [Arm(label=a["label"], changes=tuple(a["changes"]), recipe=_recipe(a, path)) for a in known["arms"]]
        trials = [Trial(**{**t, "folder": record.root() / t["folder"]}) for t in known["trials"]]
        plain = {name: known[name] for name in ("name", "id", "design", "metric")}
        return Study(folder=folder, **plain, arms=tuple(arms), seeds=tuple(known["seeds"]), trials=tuple(trials))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(path, f"is damaged ({error!r})", "give the same `genkit ablate` again") from error


def studies() -> list[Path]:
    """Folders of all studies, the newest first."""
    found = record.root().glob("studies/*/study.json")
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
    raise DataError(f"study {wanted!r}", f"there is none in {record.root() / 'studies'}", offered or "none was begun")


def _told(folder: Path) -> str:
    root = record.root()
    return str(folder.relative_to(root) if folder.is_relative_to(root) else folder.absolute())


def _recipe(arm: Mapping[str, Any], path: Path) -> Recipe:
    places = Places({(name,): Place(str(path), None, path.parent) for name in arm["recipe"]})
    return resolved(Layers(hoist(arm["recipe"], str(path)), places, set()))


# ---- running -------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Outcome:
    """What an arm came to: done with figures, diverged, or crashed with a cause."""

    arm: str
    state: str
    figures: dict[str, float] = attrs.field(factory=dict)
    folder: Path | None = None
    cause: str = ""


def arms(recipe: str | Path, swaps: Sequence[str], overrides: Iterable[str] = ()) -> list[Arm]:
    """The baseline and an arm for each swap, all checked before anything runs.

    Raises:
        RecipeError: A swap is wrong, or stands twice; every problem at once.
    """
    if not swaps:
        raise RecipeError("ablate", "nothing to swap", "give --swap slot=component, once for each arm")
    twice = {swap for swap in swaps if swaps.count(swap) > 1}
    if twice:
        raise RecipeError(f"--swap {min(twice)!r}", "stands twice", "name each swap once")
    overrides = list(overrides)
    problems: list[GenkitError] = []
    found: list[Arm] = []
    for name, chosen in [("baseline", []), *((swap, [swap]) for swap in swaps)]:
        try:
            found.append(Arm(label=name, recipe=load_recipe(recipe, overrides, chosen)))
        except GenkitError as error:
            if error.args not in [problem.args for problem in problems]:
                problems.append(error)
    stop(problems)
    return found


def ablate(
    recipe: str | Path | None = None,
    swaps: Sequence[str] = (),
    overrides: Iterable[str] = (),
    *,
    design: str = "one-at-a-time",
    seeds: Sequence[int] = (0,),
    device: str | None = None,
    watch: Callable[[str], experiment.Watch] = lambda arm: lambda event: None,
) -> list[Outcome]:
    """Run the baseline and each swap; arms that are done are not run again.

    Args:
        recipe: By default the newest run's that is no trial, else the quick start's.
        design: Only "one-at-a-time": the baseline, and each swap alone.
        seeds: Only one.
        watch: Makes the watcher of an arm's events.
    """
    if design != "one-at-a-time" or len(seeds) != 1:
        raise RecipeError(
            "ablate", f"design {design!r} with {len(seeds)} seeds is not supported", "use one-at-a-time with one seed"
        )
    settings = [*overrides, f"train.seed={seeds[0]}"] if tuple(seeds) != (0,) else list(overrides)
    planned = arms(recipe or default_recipe()[0], swaps, settings)
    return [_outcome(arm, device, watch(arm.label)) for arm in planned]


def default_recipe() -> tuple[Path | str, str]:
    """The recipe of a study that names none, and where it comes from."""
    own = next((s for s in record.runs() if not s.trial), None)
    if own:
        return own.folder / "recipe.toml", f"the recipe of the newest run, {own.folder.name}"
    return QUICK_START, f"the installed recipe {QUICK_START}"


def _outcome(arm: Arm, device: str | None, watch: experiment.Watch) -> Outcome:
    """Run one arm; divergence is a result, another failure does not stop the study, a signal does."""
    try:
        result = experiment.run(arm.recipe, device=device, trial=True, watch=watch)
    except Stopped:
        raise
    except Diverged as error:
        return Outcome(arm=arm.label, state="diverged", cause=str(error))
    except Exception as error:  # the other arms are worth having
        return Outcome(arm=arm.label, state="crashed", cause=f"{type(error).__name__}: {error}")
    return Outcome(arm=arm.label, state="done", figures=result.figures, folder=result.folder)


def table(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Rows of arms: figures, and in brackets the difference to the baseline."""
    base = outcomes[0].figures
    names = [n for n in dict.fromkeys(n for o in outcomes for n in o.figures) if "floor" not in n]
    rows = [["arm", "state", *names]]
    for outcome in outcomes:
        cells = []
        for name in names:
            value = outcome.figures.get(name)
            if value is None:
                cells.append("–")
            elif outcome is outcomes[0] or name not in base:
                cells.append(f"{value:.3g}")
            else:
                cells.append(f"{value:.3g} ({value - base[name]:+.3g})")
        rows.append([outcome.arm, outcome.state, *cells])
    return rows


def as_plain(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """For programs."""
    return [attrs.asdict(o) for o in outcomes]
