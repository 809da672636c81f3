"""A study from its question to its trials: `genkit.ablate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import attrs

from genkit.errors import RecipeError
from genkit.kernel import loading as recipes
from genkit.kernel.toml import Place
from genkit.runs import store
from genkit_studies import affordable, factors, files, launching, planning, running, tryouts
from genkit_studies import progress as board
from genkit_studies.designs import Question
from genkit_studies.study import Arm, Study

QUICK_START = "ict_digits"


def ask(
    recipe: str | Path | None = None,
    swaps: Sequence[str] = (),
    overrides: Sequence[str] = (),
    *,
    origin: str | Path | None = None,
    to: str | Path | None = None,
    **told: Any,
) -> Question:
    """A question from swaps, from two recipes, or from a study file.

    Args:
        recipe: A recipe, or a study file, by path or name; with `origin` alone it is the recipe to arrive at.
        swaps: `slot=name[,name…]`, `slot={use="name", …}`, `key.path=value[,value…]` or `recipe=name[,name…]`.
        overrides: `key.path=value`, for all arms.
        origin: The recipe to start from; the factors are what makes `to` of it.
        told: `design`, `seeds`, `metric` or `name`, over what is said elsewhere.

    Raises:
        GenkitError: The question, or a recipe, is wrong; every problem at once.
    """
    told = {name: value for name, value in told.items() if value}
    file = files.find(str(recipe)) if recipe and not origin else None
    if file and (swaps or to):
        raise RecipeError(file, "is a study file, and has its own factors", "leave --swap and --to out, or copy it")
    if file:
        return attrs.evolve(files.question(file, overrides), **told)
    if bool(origin) != bool(to) and not (origin and recipe):
        raise RecipeError("ablate", "--from and --to are two halves of one question", "give both")
    start = origin or recipe or default_recipe()[0]
    layers, notices = recipes.layers_of(start, overrides)
    base = recipes.resolved(layers, notices)
    if origin:
        if swaps:
            raise RecipeError("ablate", "--swap beside --from and --to", "ask one at a time, or write a study file")
        if to and recipe:
            raise RecipeError("ablate", f"{recipe} beside --from and --to", "give two recipes, not three")
        other = to or recipe
        found = factors.between(base, recipes.load_recipe(str(other), overrides), Place(str(other), None, Path.cwd()))
    else:
        found = factors.of_swaps(base, swaps, lambda name: recipes.load_recipe(name, overrides))
    return Question(**{"name": base.name, "base": layers, "factors": found, "notices": tuple(notices), **told})


def default_recipe() -> tuple[Path | str, str]:
    """The recipe of a study that names none, and where it comes from."""
    own = next((s for s in store.runs() if not s.trial), None)
    if own:
        return own.folder / "recipe.toml", f"the recipe of the newest run, {own.folder.name}"
    return QUICK_START, f"the installed recipe {QUICK_START}"


def untried(study: Study, only: str = "") -> list[Arm]:
    """Arms that have trials to run, and none that has shown that it runs."""
    wanted = {study.trials[i].arm for i in running.missing(study, only)}
    shown = {trial.arm for trial in study.trials if trial.state in planning.ENDED}
    return [arm for arm in study.arms if arm.label in wanted - shown]


def ablate(
    recipe: str | Path | None = None,
    swaps: Sequence[str] = (),
    overrides: Sequence[str] = (),
    *,
    design: str = "",
    seeds: Sequence[int] = (),
    device: str | None = None,
    jobs: int | None = None,
    per_device: int = 0,
    launcher: str = "",
    fail_fast: bool = False,
    watch: Callable[[Study], None] | None = None,
    progress: bool = True,
    **question: Any,
) -> Study:
    """Run the baseline and what differs from it, compare; what is done is not run again.

    Args:
        recipe: A recipe or a study file; by default the newest run's that is no trial, else the quick start's.
        design: "one-at-a-time", "leave-one-out", "add-on" or "grid".
        seeds: A trial of each arm for each; by default the recipe's own.
        jobs: How many trials at a time; by default one on a CPU, one a card otherwise.
        watch: Called with the study whenever a trial has changed, instead of showing progress.
        progress: Show it, where there is a terminal or a notebook.
        launcher: Where trials run, as for `--launcher`; by default in processes here.
        question: More of what `ask` takes: `origin`, `to`, `metric`, `name`.

    Raises:
        GenkitError: The question is wrong, an arm cannot run, or lacks a file; nothing was run.
        Stopped: A signal came; the same call goes on.
    """
    asked = ask(recipe, swaps, overrides, design=design, seeds=tuple(seeds), **question)
    with launching.launched(launching.chosen(launcher, asked.launcher, jobs, per_device), device) as (queue, here):
        planned = planning.plan(asked, here)
        affordable.require(planned, running.missing(planned))
        measured = {**planned.measured, **tryouts.try_out(planned, queue, untried(planned))}
        planned, wanted = attrs.evolve(planned, measured=measured), running.missing(planned)
        queue.share(measured, per_device)
        shown = progress and not watch and board.shown()
        silent = nullcontext(watch or (lambda study: None))
        with board.watching(planned, wanted, measured, queue.slots) if shown else silent as told:
            return running.run(planned, queue, fail_fast=fail_fast, watch=told, measured=measured)
