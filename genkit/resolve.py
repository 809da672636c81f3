"""Plain tables to checked components: every problem is collected, none raised before the end."""

from __future__ import annotations

import difflib
import re
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import cattrs

from genkit import registry
from genkit.errors import GenkitError, PluginError, RecipeError
from genkit.kinds import Source, fields, names, slots
from genkit.tables import CORE, Key, Places, Tree, spelt

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


def component(kind: str, table: Any, key: Key, problems: Problems, places: Places) -> Any:
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
        cls = registry.load(registry.find(kind, use, places.where((*key, "use"))))
    except GenkitError as error:
        problems.append(error)
        return None
    return settings(cls, {k: v for k, v in table.items() if k != "use"}, key, problems, places, use)


def _made(kind: str, made: Any, key: Key, problems: Problems, places: Places) -> Any:
    """A component that was made in Python, if an installed plugin offers it as this kind."""
    origin = registry.origin(made)
    if origin is None or origin.kind != kind:
        what = (
            f"{type(made).__name__} is no {kind} of an installed plugin" if origin is None else f"got a {origin.kind}"
        )
        problems.append(RecipeError(places.where(key, slot=True), what, "docs/write-a-plugin shows how to offer one"))
    return made


def settings(cls: type, table: Any, key: Key, problems: Problems, places: Places, called: str = "") -> Any:
    """An attrs class from a table: its settings, slots and sources; None if there was a problem."""
    before = len(problems)
    if not isinstance(table, Mapping):
        problems.append(RecipeError(places.where(key), f"expected a table, got {table!r}"))
        return None
    known = dict(fields(cls))
    places.known.update({name: spelt((*key, name)) for name in known})
    for name in table:
        if name not in known:
            problems.append(_unknown(name, table[name], cls, key, places, called))
    values = {}
    for name, field in known.items():
        here = (*key, name)
        if "slot" in field.metadata:
            values[field.name] = _slot(field, table.get(name), here, problems, places)
        elif name in table:
            values[field.name] = _value(cls, field, table[name], here, problems, places)
        elif field.default is attrs.NOTHING:
            problems.append(
                RecipeError(places.where(here, near=(*key, "use")), "must be given", field.metadata.get("help", ""))
            )
    if len(problems) > before:
        return None
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        problems.append(RecipeError(places.where(key), str(error), "see `genkit components show`"))
        return None


def _slot(field: attrs.Attribute[Any], table: Any, key: Key, problems: Problems, places: Places) -> Any:
    kind, default = field.metadata["slot"], field.metadata["use"]
    usual = {"use": default, **field.metadata["with"]}
    if table is None and default is None:
        problems.append(RecipeError(places.where(key, slot=True), f"needs a {kind}", f"set {spelt((*key, 'use'))}"))
        return None
    if table is None:
        table = usual
    elif isinstance(table, Mapping) and "use" not in table and default is not None:
        table = {**usual, **table}
    return component(kind, table, key, problems, places)


def _value(cls: type, field: attrs.Attribute[Any], value: Any, key: Key, problems: Problems, places: Places) -> Any:
    if field.metadata.get("source"):
        return settings(Source, value, key, problems, places)
    try:
        structured = _CONVERTER.structure(value, _type(cls, field))
        if field.validator is not None:
            field.validator(None, field, structured)
    except (ValueError, TypeError) as error:
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
    where, known = places.where((*key, name), slot=isinstance(value, Mapping)), dict(fields(cls))
    if key == ("objective",) and isinstance(value, Mapping | str):
        return RecipeError(
            where,
            f"objective {called!r} has no slot {name!r}",
            _hint(name, {**slots(cls), **dict.fromkeys(CORE)}, "slots", slots(cls)),
        )
    elsewhere = places.known.get(name)
    of = f" of {called}" if called else ""
    if not difflib.get_close_matches(name, known) and elsewhere:
        return RecipeError(where, f"unknown key {name!r}{of}", f"there is {elsewhere}")
    return RecipeError(where, f"unknown key {name!r}{of}", _hint(name, known, "keys"))


def _hint(name: str, near: Any, what: str, known: Any = None) -> str:
    close = difflib.get_close_matches(name, list(near), n=2)
    mean = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return f"{mean}{what}: {names(near if known is None else known)}"


# ---- values: cattrs with strict hooks, since by itself it takes "3", true and 2.7 for ints --------


def _type(cls: type, field: attrs.Attribute[Any]) -> Any:
    if not isinstance(field.type, str):
        return field.type
    owner = next(base for base in cls.__mro__ if field.name in base.__dict__.get("__annotations__", {}))
    holder = type("Holder", (), {"__annotations__": {"value": field.type}})
    return typing.get_type_hints(holder, vars(sys.modules[owner.__module__]))["value"]


def _exact(*allowed: type) -> Any:
    def structure(value: Any, wanted: type) -> Any:
        if type(value) not in allowed:
            raise ValueError(f"expected {wanted.__name__}, got {value!r}")
        return wanted(value)

    return structure


def _sequence(value: Any, wanted: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected a list, got {value!r}")
    inner = (typing.get_args(wanted) or (Any,))[0]
    return tuple(_CONVERTER.structure(v, inner) for v in value)


def _union(value: Any, wanted: Any) -> Any:
    reasons = []
    for arm in typing.get_args(wanted):
        try:
            return None if arm is types.NoneType and value is None else _CONVERTER.structure(value, arm)
        except (ValueError, TypeError) as error:
            reasons.append(str(error))
    raise ValueError(next((r for r in reasons if "None" not in r), reasons[0]))


def _origin(wanted: Any) -> Any:
    return typing.get_origin(wanted)


def _none(value: Any, wanted: Any) -> None:
    if value is not None:
        raise ValueError(f"expected None, got {value!r}")


_CONVERTER = cattrs.Converter(detailed_validation=False)
_CONVERTER.register_structure_hook(int, _exact(int))
_CONVERTER.register_structure_hook(float, _exact(float, int))
_CONVERTER.register_structure_hook(str, _exact(str))
_CONVERTER.register_structure_hook(bool, _exact(bool))
_CONVERTER.register_structure_hook(Path, _exact(str, type(Path())))
_CONVERTER.register_structure_hook(types.NoneType, _none)
_CONVERTER.register_structure_hook_func(lambda t: _origin(t) in (tuple, list), _sequence)
_CONVERTER.register_structure_hook_func(lambda t: _origin(t) in (typing.Union, types.UnionType), _union)


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
            tree[name] = _simple(value)
    return tree


def _simple(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_simple(v) for v in value]
    return str(value) if isinstance(value, Path) else value
