"""Plain tables to checked components: every problem is collected, none raised before the end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from genkit.errors import GenkitError, PluginError, RecipeError
from genkit.kernel import discovery, registry, values
from genkit.kernel.toml import CORE, Key, Places, Tree, spelt
from genkit.kinds import Source, closest, fields, names, require_numbers, slots

Problems = list[GenkitError]


def stop(problems: Problems) -> None:
    """Raise what was collected: one error as it is, several as one, a line each.

    Raises:
        GenkitError: If there is any; exit code 3 if all are about plugins, else 2.
    """
    if not problems:
        return
    if len(problems) == 1:
        raise problems[0]
    error = RecipeError.of([str(problem) for problem in sorted(problems, key=_line)])
    if all(isinstance(problem, PluginError) for problem in problems):
        error.exit_code = PluginError.exit_code
    raise error


def _line(problem: GenkitError) -> tuple[str, float]:
    """The file and line that a problem names; those that name none come last."""
    found = re.match(r"(\S+?):(\d+) ", problem.where)
    return (found[1], float(found[2])) if found else ("\uffff", 0.0)


def component(kind: str, name: str, /, **settings: Any) -> Any:
    """A checked component, with its slots filled: `component("loss", "pseudo-huber", c=0.03)`.

    A slot takes a component, a name, or a mapping with `use`.

    Raises:
        RecipeError: An unknown name or setting, or a wrong value; every problem at once.
    """
    registry.require_kind(kind)
    problems: Problems = []
    made = of_table(kind, {"use": name, **settings}, (kind,), problems, Places())
    stop(problems)
    return made


def of_table(kind: str, table: Any, key: Key, problems: Problems, places: Places) -> Any:
    """The component of a table with `use` (or of a bare name); None if there was a problem."""
    if attrs.has(type(table)):
        return _made(kind, table, key, problems, places)
    if isinstance(table, str):
        table = {"use": table}
    where = places.where(key, slot=True)
    if not isinstance(table, Mapping):
        problems.append(RecipeError(where, f"expected a table or the name of a {kind}, got {table!r}"))
        return None
    use = table.get("use")
    if not isinstance(use, str):
        offered = names(n for k, n in registry.components() if k == kind)
        problems.append(RecipeError(where, f"names no {kind}", f"set {spelt((*key, 'use'))} to one of: {offered}"))
        return None
    try:
        cls = class_of(kind, use, key, places)
    except GenkitError as error:
        if places.lenient:
            return registry.Missing(error)
        problems.append(error)
        return None
    return settings(cls, {k: v for k, v in table.items() if k != "use"}, key, problems, places, use)


def class_of(kind: str, use: str, key: Key, places: Places) -> type:
    """The class that the `use` of a table names: one that is found otherwise, such as by a file, or a plugin's.

    Raises:
        GenkitError: There is none such, or it cannot be imported.
    """
    where, place = places.where((*key, "use")), places.of((*key, "use"))
    folder, by_hand = (place.folder, place.by_hand) if place else (Path.cwd(), True)  # what no file says, Python does
    asked = {"kind": kind, "use": use, "where": where, "folder": folder, "by_hand": by_hand}
    return registry.load(discovery.installed().manager.hook.genkit_find(**asked) or registry.find(kind, use, where))


def _made(kind: str, made: Any, key: Key, problems: Problems, places: Places) -> Any:
    """A component that was made in Python, of a class that a plugin offers as this kind, or that was registered."""
    origin, name = registry.origin(made), type(made).__name__
    if origin is None or origin.kind != kind:
        what = f"got a {origin.kind}" if origin else f"{name} is a class that genkit does not know yet"
        hint = "" if origin else f"say genkit.register({kind!r}, {name.lower()!r}, {name}) before"
        problems.append(RecipeError(places.where(key, slot=True), what, hint))
    elif (cls := registry.load(origin)) is not type(made):  # a class as it was when it was registered, as is recorded
        return cls(**attrs.asdict(made, recurse=False))
    return made


def settings(cls: type, table: Any, key: Key, problems: Problems, places: Places, called: str = "") -> Any:
    """An attrs class from a table: its settings, slots and sources; None if there was a problem."""
    before = len(problems)
    if not isinstance(table, Mapping):
        problems.append(RecipeError(places.where(key), f"expected a table, got {table!r}"))
        return None
    known = dict(fields(cls))
    places.known |= {(*key, name) for name in known}
    former = getattr(cls, "former", {})
    for name in table:
        if name not in known and (name not in former or table[name] != former[name]):
            problems.append(_unknown(name, table[name], cls, key, places, called))
    given: dict[str, Any] = {}
    for name, field in known.items():
        here = (*key, name)
        if "slot" in field.metadata:
            given[field.name] = slot(field, table.get(name), here, problems, places)
        elif name in table:
            given[field.name] = value(cls, field, table[name], here, problems, places)
        elif field.default is attrs.NOTHING:
            where = places.where(here, near=(*key, "use"))
            problems.append(RecipeError(where, "must be given", field.metadata.get("help", "")))
    if len(problems) > before:
        return None
    try:
        return cls(**given)
    except (ValueError, TypeError) as error:
        problems.append(RecipeError(places.where(key), str(error), "see `genkit components show`" if called else ""))
        return None


def slot(field: attrs.Attribute[Any], table: Any, key: Key, problems: Problems, places: Places) -> Any:
    kind, default = field.metadata["slot"], field.metadata["use"]
    usual = {"use": default, **field.metadata["with"]}
    if table is None and default is None:
        problems.append(RecipeError(places.where(key, slot=True), f"needs a {kind}", f"set {spelt((*key, 'use'))}"))
        return None
    if table is None:
        table = usual
    elif isinstance(table, Mapping) and "use" not in table and default is not None:
        table = {**usual, **table}
    return of_table(kind, table, key, problems, places)


def value(cls: type, field: attrs.Attribute[Any], value: Any, key: Key, problems: Problems, places: Places) -> Any:
    if field.metadata.get("source"):
        return settings(Source, value, key, problems, places)
    try:
        structured = values.structured(value, values.type_of(cls, field))
        require_numbers(None, field, structured)  # also where a field was made without `setting`
        if field.validator is not None:
            field.validator(None, field, structured)
    except (ValueError, TypeError, OverflowError) as error:
        reason = str(error.args[0]) if error.args else str(error)
        problems.append(RecipeError(places.where(key), reason, field.metadata.get("help", "")))
        return None
    place = places.of(key)
    folder = place.folder if place else Path.cwd()
    if isinstance(structured, Path):
        return folder / structured.expanduser()
    if cls is Source and field.name == "origin" and not structured.startswith("recipe:"):
        path = folder / Path(structured).expanduser()  # a weights file or a run folder, else the name of a run
        return str(path) if structured and (path.exists() or path.suffix == ".safetensors") else structured
    return structured


def _unknown(name: str, value: Any, cls: type, key: Key, places: Places, called: str) -> RecipeError:
    top, known = key == ("objective",), dict(fields(cls))
    where = places.where((*key, name), slot=top or isinstance(value, Mapping))
    if top and isinstance(value, Mapping | str):
        hint = _hint(name, {**slots(cls), **dict.fromkeys(CORE)}, "slots", slots(cls))
        return RecipeError(where, f"objective {called!r} has no slot {name!r}", hint)
    elsewhere = [spelt(k) for k in places.known if k[-1] == name]
    of = f" of {called}" if called else ""
    if elsewhere and not closest(name, known):
        hint = f"there {'are' if len(elsewhere) > 1 else 'is'} {names(elsewhere)}"
        return RecipeError(where, f"unknown key {name!r}{of}", hint)
    near = {**known, **dict.fromkeys(CORE if top else ())}
    return RecipeError(where, f"unknown key {name!r}{of}", _hint(name, near, "keys", known))


def _hint(name: str, near: Any, what: str, known: Any = None) -> str:
    return f"{closest(name, near)} {what}: {names(near if known is None else known)}".lstrip()


def plain(component: Any) -> Tree:
    """A component as the table that makes it again, defaults included; values that are None left out."""
    tree: Tree = {}
    if origin := registry.origin(component):
        tree["use"] = origin.name if (origin.kind, origin.name) in registry.components() else origin.qualified
    for name, field in fields(type(component)):
        value = getattr(component, field.name)
        if attrs.has(type(value)):
            tree[name] = plain(value)
        elif value is not None:
            tree[name] = simple(value)
    return tree


def simple(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [simple(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def components_of(component: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """A component and those in its slots, at any depth, with their keys."""
    if isinstance(component, Mapping):
        for name, inner in component.items():
            yield from components_of(inner, (*key, name))
    elif attrs.has(type(component)):
        if registry.origin(component):
            yield key, component
        for name, field in fields(type(component)):
            yield from components_of(getattr(component, field.name), (*key, name))
