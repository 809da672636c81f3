"""What one asks about, from `--swap`, or from the difference of two recipes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from genkit.errors import GenkitError, RecipeError
from genkit.kernel import resolving, tables, toml
from genkit.kernel.recipe import CORE_TABLES, Recipe
from genkit.kernel.tables import Edit
from genkit.kernel.toml import Key, Place
from genkit.kinds import fields
from genkit_studies.designs import Factor, Option

Load = Callable[[str], Recipe]
SHARED = ("averages", "metrics", "evaluate", "trackers", "name", "genkit")  # what all arms have alike


def edits(recipe: Recipe, name: str, value: Any, place: Place, load: Load) -> tuple[Edit, ...]:
    """The edits that `name = value` means; `recipe = NAME` is that recipe, on this one's data and with its [train].

    Raises:
        RecipeError: All arms share what is named; or the other recipe does not differ.
    """
    if name != "recipe":
        return (edit(recipe, name, value, place),)
    other = load(str(value))
    other = attrs.evolve(other, dataset=recipe.dataset, train=recipe.train)
    return tuple(made for factor in between(recipe, other, place) for made in factor.options[0].edits)


def edit(recipe: Recipe, name: str, value: Any, place: Place) -> Edit:
    """The edit that `name = value` means: a slot is swapped whole, a setting is changed.

    Raises:
        RecipeError: All arms share what is named.
    """
    key = toml.hoisted(tuple(part.strip() for part in name.split(".")))
    if key[0] in SHARED or key == ("train", "seed"):
        hint = "give --seeds" if key[0] == "train" else "use an override, for all of them"
        raise RecipeError(f"{place} {name}", "all arms share it", hint)
    is_table = isinstance(value, Mapping)
    is_swap = "use" in value if is_table else isinstance(value, str) and _is_slot(recipe, key)
    if not is_table and len(key) == 1 and key[0] in CORE_TABLES:
        hint = f"for instance {name}.{next(iter(fields(CORE_TABLES[name])))[0]}=..."
        raise RecipeError(f"{place} {name}", "is a table of settings, no component", hint)
    return Edit(key, dict(value) if is_table else value, place, is_swap)


def _is_slot(recipe: Recipe, key: Key) -> bool:
    """Whether a key is a component's place; one that nobody knows is taken for one, and refused as such."""
    at: Any = recipe
    for name in key[:-1]:
        field = dict(fields(type(at))).get(name)
        at = getattr(at, field.name) if field else None
        if not hasattr(type(at), "__attrs_attrs__"):
            return field is None and len(key) <= 2
    known = dict(fields(type(at)))
    return "slot" in known[key[-1]].metadata if key[-1] in known else len(key) <= 2


# ---- from the command line -----------------------------------------------------------------------


def of_swaps(recipe: Recipe, swaps: Sequence[str], load: Load) -> tuple[Factor, ...]:
    """Factors from `slot=name[,name…]`, `slot={use="name", …}` and `key.path=value[,value…]`, one for each key.

    Args:
        load: Gives another recipe by its name, with what is changed for all arms.

    Raises:
        RecipeError: A swap is wrong, empty, or stands twice; every problem at once.
    """
    place, problems = Place("--swap", None, Path.cwd(), by_hand=True), []
    options: dict[str, list[Option]] = {}
    for swap in swaps:
        name, equals, values = (part.strip() for part in swap.partition("="))
        try:
            if not name or not equals or not values:
                raise RecipeError(f"--swap {swap!r}", "names nothing to swap in", "give slot=component[,component]")
            for text in split(values):
                if not text:
                    raise RecipeError(f"--swap {swap!r}", "has an empty place between commas", "take the comma out")
                label = f"{name}={text}"
                if any(label == known.label for known in options.get(name, [])):
                    raise RecipeError(f"--swap {label!r}", "stands twice", "name each swap once")
                option = Option(label=label, edits=edits(recipe, name, tables.value_of(text), place, load))
                options.setdefault(name, []).append(option)
        except GenkitError as error:
            problems.append(error)
    resolving.stop(problems)
    return tuple(Factor(name=name, options=tuple(found)) for name, found in options.items())


def split(text: str) -> list[str]:
    """The parts between commas that stand in no brackets and no quotes."""
    parts, depth, quote, begun = [], 0, "", 0
    for i, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "{[(":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append(text[begun:i])
            begun = i + 1
    return [part.strip() for part in (*parts, text[begun:])]


# ---- from two recipes ----------------------------------------------------------------------------


def between(a: Recipe, b: Recipe, place: Place) -> tuple[Factor, ...]:
    """The factors that make recipe b of recipe a: a component each, and a setting of [train] each.

    Raises:
        RecipeError: They do not differ in anything that can change the weights.
    """
    factors = tuple(
        Factor(name=name, options=(Option(label=label, edits=(Edit(key, value, place, swap),)),))
        for name, label, key, value, swap in itertools.chain(_components(a, b), _settings(a, b))
    )
    if not factors:
        raise RecipeError(f"{a.name} and {b.name}", "do not differ in what is trained", "name two that do")
    return factors


Difference = tuple[str, str, Key, Any, bool]


def _components(a: Recipe, b: Recipe) -> Iterator[Difference]:
    """Slots whose components differ; of objectives that differ, the objective as a whole."""
    one, other = a.tree(), b.tree()
    core = ["dataset", "optimizer", "ema", "levels", "init"]
    if one["objective"] != other["objective"]:
        whole = resolving.plain(b.objective)
        yield "objective", _named("objective", one, other), ("objective",), whole, True
        if one["objective"]["use"] != other["objective"]["use"]:
            one = {**one, **{n: other.get(n) for n in [*one, *other] if n not in toml.CORE}}
    slots = [n for n in dict.fromkeys([*one, *other]) if n not in toml.CORE]
    for name in ["dataset", *slots, *core[1:]]:
        if one.get(name) != other.get(name):
            value = other.get(name) or resolving.plain(getattr(b, name))
            yield name, _named(name, one, other), toml.hoisted((name,)), value, "use" in value


def _named(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What a factor is called: the other's component, or the settings in which the same component differs."""
    a, b = one.get(name) or {}, other.get(name) or {}
    if a.get("use") != b.get("use"):
        return f"{name}={b.get('use')}"
    changed = [f"{name}.{key}={value}" for key, value in b.items() if a.get(key) != value]
    return ", ".join(changed)


def _settings(a: Recipe, b: Recipe) -> Iterator[Difference]:
    """Settings of [train] that can change the weights, the seed apart."""
    for name, field in fields(type(a.train)):
        value = getattr(b.train, field.name)
        if field.metadata.get("identity", True) and name != "seed" and value != getattr(a.train, field.name):
            yield f"train.{name}", f"train.{name}={value}", ("train", name), value, False
