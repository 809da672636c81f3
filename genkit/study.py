"""A study: the same recipe with components swapped, each arm a run, and what the swaps were worth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

from genkit import experiment, record
from genkit.errors import Diverged, GenkitError, RecipeError, Stopped
from genkit.recipe import Recipe, load_recipe
from genkit.resolve import stop

QUICK_START = "ict_digits"


@attrs.frozen(kw_only=True)
class Arm:
    """One recipe of a study; `name` says what it changes."""

    name: str
    recipe: Recipe


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
            found.append(Arm(name=name, recipe=load_recipe(recipe, overrides, chosen)))
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
    return [_outcome(arm, device, watch(arm.name)) for arm in planned]


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
        return Outcome(arm=arm.name, state="diverged", cause=str(error))
    except Exception as error:  # the other arms are worth having
        return Outcome(arm=arm.name, state="crashed", cause=f"{type(error).__name__}: {error}")
    return Outcome(arm=arm.name, state="done", figures=result.figures, folder=result.folder)


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
