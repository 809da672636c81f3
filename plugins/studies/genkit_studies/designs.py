"""From a question to arms: factors that are on or off, and the designs that say which are on in which arm.

A *factor* is something that one asks about. Off, the recipe is as the factor finds it or as its `off` edits make it;
on, as one of its options makes it. An arm picks for each factor: 0 is off, i its i-th option.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from genkit.errors import GenkitError, RecipeError
from genkit.kernel import tables
from genkit.kernel.identity import identity
from genkit.kernel.loading import resolved
from genkit.kernel.resolving import plain, stop
from genkit.kernel.tables import Edit, Layers
from genkit.kinds import closest, names
from genkit_studies.changes import marked
from genkit_studies.study import Arm

MAX_ARMS = 100
Pick = tuple[int, ...]


@attrs.frozen(kw_only=True)
class Option:
    """One way in which a factor can be on."""

    label: str
    edits: tuple[Edit, ...] = ()


@attrs.frozen(kw_only=True)
class Factor:
    """Something that one asks about: its options, and what makes a recipe be without it."""

    name: str
    options: tuple[Option, ...]
    off: tuple[Edit, ...] = ()

    def edits(self, pick: int) -> tuple[Edit, ...]:
        return self.options[pick - 1].edits if pick else self.off


@attrs.frozen(kw_only=True)
class Question:
    """What a study asks.

    Attributes:
        base: The recipe's tables, with the settings that all arms share.
        baseline: What the first arm is called.
        excluded: Combinations that make no arm: labels of options by names of factors.
        seeds: Empty: that of the recipe.
        launcher: The table of where its trials run, if it says so.
    """

    name: str
    base: Layers
    factors: tuple[Factor, ...]
    design: str = "one-at-a-time"
    baseline: str = "baseline"
    seeds: tuple[int, ...] = ()
    metric: str = ""
    excluded: tuple[Mapping[str, str], ...] = ()
    notices: tuple[str, ...] = ()
    launcher: Mapping[str, Any] | None = None


# ---- designs: factors -> picks, the baseline's first ---------------------------------------------


def one_at_a_time(factors: Sequence[Factor]) -> Iterator[Pick]:
    """All off; then each option of each factor alone."""
    none = (0,) * len(factors)
    yield none
    for i, factor in enumerate(factors):
        for option in range(1, len(factor.options) + 1):
            yield (*none[:i], option, *none[i + 1 :])


def leave_one_out(factors: Sequence[Factor]) -> Iterator[Pick]:
    """All on; then each factor alone off."""
    every = (1,) * len(factors)
    yield every
    for i in range(len(factors)):
        yield (*every[:i], 0, *every[i + 1 :])


def add_on(factors: Sequence[Factor]) -> Iterator[Pick]:
    """All off; then one more on in each arm, in their order: the rows of a paper's table."""
    for i in range(len(factors) + 1):
        yield (1,) * i + (0,) * (len(factors) - i)


def grid(factors: Sequence[Factor]) -> Iterator[Pick]:
    """Every combination of off and options."""
    yield from itertools.product(*(range(len(factor.options) + 1) for factor in factors))


Design = Callable[[Sequence[Factor]], Iterator[Pick]]
DESIGNS: dict[str, Design] = {
    "one-at-a-time": one_at_a_time, "leave-one-out": leave_one_out, "add-on": add_on, "grid": grid
}  # fmt: skip


def picks(question: Question) -> list[Pick]:
    """The picks of a question's arms.

    Raises:
        RecipeError: There is nothing to pick from, the design does not fit, or the arms are too many.
    """
    factors, name = question.factors, question.design
    if name not in DESIGNS:
        hint = closest(name, DESIGNS, f"designs: {', '.join(DESIGNS)}")
        raise RecipeError("design", f"no design {name!r}", hint)
    if not factors:
        raise RecipeError("ablate", "nothing to swap", "give --swap slot=component, or --from A --to B")
    several = [factor.name for factor in factors if len(factor.options) > 1]
    if several and name in ("leave-one-out", "add-on"):
        text = f"{names(several)}: several options, and {name} is about having one or not"
        raise RecipeError("design", text, "choose one-at-a-time or grid, or leave one option")
    count = math.prod(len(f.options) + 1 for f in factors) if name == "grid" else sum(len(f.options) for f in factors)
    if count > MAX_ARMS:
        hint = "ask about fewer factors, or one-at-a-time" if name == "grid" else "ask about fewer"
        raise RecipeError("design", f"{name} makes {count} arms, and {MAX_ARMS} are the limit", hint)
    first, *others = DESIGNS[name](factors)
    return [first, *(pick for pick in others if not _excluded(question, pick))]


def _excluded(question: Question, pick: Pick) -> bool:
    on = {f.name: f.options[i - 1].label for f, i in zip(question.factors, pick, strict=True) if i}
    return any(combination.items() <= on.items() for combination in question.excluded)


# ---- arms ----------------------------------------------------------------------------------------


def arms(question: Question) -> tuple[Arm, ...]:
    """The arms of a question, resolved and checked, the baseline first.

    Raises:
        RecipeError: An arm makes no recipe, or the same run as another; every problem at once.
    """
    problems: list[GenkitError] = []
    found: list[Arm] = []
    chosen = picks(question)
    for pick in chosen:
        edits = [e for f, i in zip(question.factors, pick, strict=True) for e in f.edits(i)]
        try:
            recipe = resolved(tables.edited(question.base, edits), question.notices)
        except GenkitError as error:
            problems.append(error)
            continue
        label = question.baseline if pick == chosen[0] else _label(question, pick)
        turned = [(f, i, j) for f, i, j in zip(question.factors, pick, chosen[0], strict=True) if i != j]
        asked = [e for factor, i, j in turned for e in (*factor.edits(i), *factor.edits(j))]
        arm = Arm(label=label, recipe=recipe, changes=marked(found[0].recipe, recipe, asked) if found else ())
        problems += _unfit(arm, found)
        found.append(arm)
    stop(_once(problems))
    return tuple(found)


def _label(question: Question, pick: Pick) -> str:
    """What an arm is called: what it has, leaves out, or adds to the row above."""
    factors = question.factors
    if question.design == "leave-one-out":
        return f"without {factors[pick.index(0)].options[0].label}"
    if question.design == "add-on":
        return f"+ {factors[sum(pick) - 1].options[0].label}"
    return ", ".join(f.options[i - 1].label for f, i in zip(factors, pick, strict=True) if i)


def _unfit(arm: Arm, others: Sequence[Arm]) -> Iterator[GenkitError]:
    """What speaks against an arm beside those before it."""
    if not others:
        return
    base = others[0].recipe
    known = {identity(other.recipe, ""): other.label for other in others}
    if (same := identity(arm.recipe, "")) in known:
        hint = "leave it out: the baseline is always run" if known[same] == others[0].label else "ask once"
        yield RecipeError(f"arm {arm.label!r}", f"is the same run as {known[same]!r}", hint)
    elif arm.label in {other.label for other in others}:
        yield RecipeError(f"arm {arm.label!r}", "stands twice", "give each its own label")
    ours, theirs = ({**recipe.protocol(), "dataset": _shown(recipe.dataset)} for recipe in (arm.recipe, base))
    if type(arm.recipe.objective) is not type(base.objective):
        own = {"sampler": None, "levels": None}  # of each method
        ours, theirs = {**ours, **own}, {**theirs, **own}
    if ours != theirs:
        other = next(name for name in theirs if ours.get(name) != theirs[name])
        yield RecipeError(
            f"arm {arm.label!r}", f"is evaluated otherwise than the baseline ({other})", "all arms share that"
        )


def _shown(dataset: Any) -> dict[str, Any]:
    """What figures are held against: the settings of a data set without those of how training changes its samples."""
    return {name: value for name, value in plain(dataset).items() if not name.startswith("augment")}


def _once(problems: Iterable[GenkitError]) -> list[GenkitError]:
    return list({str(problem): problem for problem in problems}.values())
