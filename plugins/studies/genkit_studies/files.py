"""Study files: a question on disk, so that a paper's table is one file.

genkit = 1
recipe = "ict_digits"                 # or from = "…" and to = "…", whose difference are the factors
design = "leave-one-out"
seeds = [0, 1, 2]
metric = "fd.fd@1"
set = { "train.steps" = 900 }         # what all arms share

[[factor]]
label = "lognormal noise"
without = { noise = "uniform" }       # the recipe has it; so it is made to be without

[[factor]]
label = "EMA teacher"
change = { teacher = "ema", "optimizer.lr" = 1e-3 }     # changes that belong together

[[factor]]
key = "loss.c"
values = [0.01, 0.1]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from genkit.errors import GenkitError, RecipeError
from genkit.kernel import loading, resolving, tables, toml
from genkit.kernel.recipe import FORMAT
from genkit.kernel.resolving import Problems
from genkit.kernel.tables import Edit, Layers
from genkit.kernel.toml import Place, Places
from genkit.kinds import names, setting
from genkit_studies import factors
from genkit_studies.designs import Factor, Option, Question

_v = attrs.validators
Meant = Callable[[str, Any, Place], tuple[Edit, ...]]  # the edits that `name = value` means, as told at a place


@attrs.frozen(kw_only=True)
class StudyFile:
    """The top of a study file."""

    genkit: int = setting(FORMAT, "format", check=_v.in_((FORMAT,)))
    name: str = setting("", "name of its folder; that of the file, if not given")
    about: str = setting("", "one line on what it asks, and after whom")
    recipe: str = setting("", "the recipe that all arms start from")
    origin: str = setting("", "instead: the recipe that one starts from", key="from")
    to: str = setting("", "and the one whose differences are the factors")
    design: str = setting("one-at-a-time", "one-at-a-time, leave-one-out, add-on or grid")
    seeds: tuple[int, ...] = setting((), "a trial for each; the recipe's own, if not given")
    metric: str = setting("", "the figure that it is about, such as fd.fd@1")
    baseline: str = setting("baseline", "what the first arm is called")
    settings: Any = setting(None, "what all arms share, by key", key="set")
    launcher: Any = setting(None, "where its trials run")
    factor: Any = setting((), "what is asked about, a table each")
    exclude: Any = setting((), "combinations that make no arm: {factor = label, …}")


@attrs.frozen(kw_only=True)
class FactorTable:
    """A table [[factor]]: with `change`, `without`, or `key` and `values`."""

    name: str = setting("", "its name in `exclude`; its label or key, if not given")
    label: str = setting("", "what its arm is called")
    change: Any = setting(None, "what it changes: {slot = component, key = value, …}")
    without: Any = setting(None, "what a recipe that has it is changed to, to be without")
    key: str = setting("", "the slot or setting of `values`; or recipe, whose values are other recipes")
    values: Any = setting((), "an option each")
    labels: tuple[str, ...] = setting((), "what they are called")


def installed() -> dict[str, Path]:
    """Study files by name: the core's own, then those in a folder `studies` of plugins' recipes."""
    found: dict[str, Path] = {}
    for file in (file for _, folder in loading.folders() for file in sorted(folder.glob("studies/*.toml"))):
        found.setdefault(file.stem, file)
    return found


def find(given: str) -> Path | None:
    """The study file that is meant by a path or name; None if it is that of a recipe, or of nothing."""
    path = Path(given)
    if path.is_file():
        _, tree = toml.parse(path, given)
        return path if {"factor", "from", "design"} & tree.keys() else None
    return installed().get(path.stem if path.suffix == ".toml" else given)


def question(path: Path, overrides: Sequence[str] = ()) -> Question:
    """What a study file asks.

    Args:
        overrides: `key.path=value`, for all arms.

    Raises:
        GenkitError: The file, or the recipe that it names, is wrong; every problem at once.
    """
    text, tree = toml.parse(path, str(path))
    lines = toml.line_index(text)
    headers = [n for n, line in enumerate(text.splitlines(), 1) if re.match(r"\s*\[\[\s*factor\s*\]\]", line)]
    by_hand = path not in installed().values()
    places = Places({(name,): Place(str(path), lines.get((name,)), path.parent, by_hand) for name in tree})
    for i, number in enumerate(headers):
        places["factor", str(i + 1)] = Place(str(path), number, path.parent, by_hand)
    problems: Problems = []
    file: StudyFile = resolving.settings(StudyFile, tree, (), problems, places)
    resolving.stop(problems)
    start, shared = _start(file, path), _shared(file, places, problems)
    resolving.stop(problems)

    def near(name: str) -> tuple[Layers, list[str]]:
        return _layers(_near(name, path), shared, overrides)

    layers, notices = near(start)
    base = loading.resolved(layers, notices)
    if file.origin:
        other = loading.resolved(*near(file.to))
        found = factors.between(base, other, Place(str(path), None, path.parent))
    else:
        tables_ = file.factor if isinstance(file.factor, list | tuple) else [file.factor]
        edits = partial(factors.edits, base, load=lambda name: loading.resolved(*near(name)))
        found = tuple(
            made for i, table in enumerate(tables_, 1) if (made := _factor(i, table, edits, places, problems))
        )
    problems += _unknown_exclusions(file, found, places)
    resolving.stop(problems)
    told = {name: getattr(file, name) for name in ("design", "baseline", "seeds", "metric", "launcher")}
    excluded = tuple(dict(combination) for combination in file.exclude)
    return Question(
        name=file.name or path.stem, base=layers, factors=found, excluded=excluded, notices=tuple(notices), **told
    )


def _start(file: StudyFile, path: Path) -> str:
    if bool(file.recipe) == bool(file.origin) or bool(file.origin) != bool(file.to):
        raise RecipeError(path, "names no recipe to start from", 'give recipe = "…", or from = "…" and to = "…"')
    return file.recipe or file.origin


def _near(name: str, path: Path) -> str:
    """A recipe as a study file names it: beside the file, or installed."""
    return str(path.parent / name) if (path.parent / name).is_file() else name


def _shared(file: StudyFile, places: Places, problems: Problems) -> list[Edit]:
    """The edits of the table `set`, which all arms share."""
    where, place = places.where(("set",)), places.of(("set",))
    if file.settings is None:
        return []
    if not isinstance(file.settings, Mapping) or place is None:
        problems.append(RecipeError(where, f"expected a table, got {file.settings!r}", "{ 'train.steps' = 900 }"))
        return []
    return [Edit(toml.hoisted(tuple(name.split("."))), value, place) for name, value in file.settings.items()]


def _layers(recipe: str, shared: Iterable[Edit], overrides: Iterable[str]) -> tuple[Layers, list[str]]:
    layers, notices = loading.layers_of(recipe)
    return tables.override(tables.edited(layers, shared), overrides), notices


def _factor(number: int, table: Any, meant: Meant, places: Places, problems: Problems) -> Factor | None:
    """One table [[factor]]; None if there was a problem."""
    key, before = ("factor", str(number)), len(problems)
    given = resolving.settings(FactorTable, table, key, problems, places)
    if given is None:
        return None
    place = places.of(key) or Place("factor", None, Path.cwd())
    where = places.where(key)

    def edits(changes: Any) -> tuple[Edit, ...]:
        if not isinstance(changes, Mapping) or not changes:
            problems.append(RecipeError(where, f"expected a table of changes, got {changes!r}", "{ loss = 'l2' }"))
            return ()
        found: list[Edit] = []
        for name, value in changes.items():
            try:
                found += meant(name, value, place)
            except GenkitError as error:
                problems.append(error)
        return tuple(found)

    if sum((given.change is not None, given.without is not None, bool(given.key))) != 1:
        problems.append(RecipeError(where, "says not what changes", "give one of: change, without, key and values"))
    elif given.key:
        options = _sweep(given, where, problems, edits)
        return Factor(name=given.name or given.key, options=options) if len(problems) == before else None
    else:
        changes = given.change if given.change is not None else given.without
        made = edits(changes)
        on, off = (made, ()) if given.change is not None else ((), made)
        if len(problems) == before:
            label = given.label or ", ".join(f"{n}={_text(v)}" for n, v in changes.items())
            return Factor(name=given.name or label, options=(Option(label=label, edits=on),), off=off)
    return None


def _sweep(given: FactorTable, where: str, problems: Problems, edits: Any) -> tuple[Option, ...]:
    values = given.values if isinstance(given.values, list | tuple) else []
    if not values:
        problems.append(RecipeError(where, f"{given.key}: no values", "values = [0.01, 0.1]"))
    if given.labels and len(given.labels) != len(values):
        problems.append(RecipeError(where, f"{len(values)} values and {len(given.labels)} labels", "one for each"))
    labels = given.labels or tuple(f"{given.key}={_text(value)}" for value in values)
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        problems.append(RecipeError(where, f"{twice[0]} stands twice", "name each once"))
    return tuple(
        Option(label=label, edits=edits({given.key: value})) for label, value in zip(labels, values, strict=False)
    )


def _text(value: Any) -> str:
    """A value in a label: "l2", "pseudo-huber(c=0.1)", "0.1"."""
    if not isinstance(value, Mapping):
        return str(value)
    settings = ", ".join(f"{name}={_text(v)}" for name, v in value.items() if name != "use")
    return f"{value.get('use', '')}({settings})" if settings else str(value.get("use", ""))


def _unknown_exclusions(file: StudyFile, found: tuple[Factor, ...], places: Places) -> list[GenkitError]:
    """Exclusions that name no factor, or no option of it."""
    labels = {factor.name: [option.label for option in factor.options] for factor in found}
    problems: list[GenkitError] = []
    where = places.where(("exclude",))
    if not isinstance(file.exclude, list | tuple) or not all(isinstance(c, Mapping) for c in file.exclude):
        return [RecipeError(where, "expected a list of tables", "exclude = [{ noise = 'uniform', loss = 'l2' }]")]
    for name, label in (pair for combination in file.exclude for pair in combination.items()):
        if name not in labels:
            problems.append(RecipeError(where, f"no factor {name!r}", f"factors: {names(labels)}"))
        elif label not in labels[name]:
            problems.append(RecipeError(where, f"{name} has no option {label!r}", f"options: {names(labels[name])}"))
    return problems
