"""`genkit recipe schema`: a JSON schema of recipes, made from the classes of all installed components, for editors.

A table whose `use` is written is held to that component; without `use`, as where a recipe extends another, it may have
the settings of any component of its kind. Editors read `properties` to complete, and if, then and else to check.
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import attrs
import typer

from genkit.cli import show
from genkit.errors import GenkitError
from genkit.kernel import registry, toml, values
from genkit.kernel.recipe import CORE_TABLES, Recipe
from genkit.kernel.registry import ComponentInfo
from genkit.kinds import Source, fields

Schema = dict[str, Any]
FILE = "genkit.schema.json"
DRAFT = "http://json-schema.org/draft-07/schema#"
SIMPLE: Mapping[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string"}
BOUNDS = {">=": "minimum", ">": "exclusiveMinimum", "<=": "maximum", "<": "exclusiveMaximum"}


def schema(
    write: Annotated[bool, typer.Option("--write", help=f"Write {FILE} into the working directory.")] = False,
) -> None:
    """A JSON schema of recipes with all installed components, by which editors complete, explain and check them."""
    from genkit.data import atomic

    text = json.dumps(whole(), indent=1) + "\n"
    if not write:
        print(text, end="")
        return
    atomic.write(Path(FILE), text)
    print(FILE)
    show.say(f"a recipe that begins with the line `#:schema {FILE}` is completed and checked by it in editors")


def whole() -> Schema:
    """The schema of a recipe file, as it is written, extended or resolved."""
    of_kind: dict[str, dict[str, Schema]] = {}
    objectives: list[Mapping[str, Schema]] = []
    for (kind, name), info in registry.components().items():
        made = _component(info)
        of_kind.setdefault(kind, {})[name] = made
        objectives += [made.get("properties", {})] * (kind == "objective")
    definitions = {kind: _kind(kind, components) for kind, components in of_kind.items()}
    definitions["source"] = _table(Source)
    slots = {name: _either(ps) for name, ps in _grouped(objectives).items() if name not in toml.CORE}
    tables = {name: part for name, part in slots.items() if "$ref" in json.dumps(part)}
    return {
        "$schema": DRAFT,
        "title": "genkit recipe",
        "type": "object",
        "properties": {**_core(), **tables},
        "additionalProperties": False,
        "definitions": definitions,
    }


def _core() -> Schema:
    """The tables that every recipe has."""
    names = {"type": ["string", "array"], "items": {"type": "string"}}
    found: Schema = {"extends": {**names, "description": "The recipes below this one: files or installed ones."}}
    for name, field in fields(Recipe):
        if name in CORE_TABLES:
            found[name] = _table(CORE_TABLES[name])
        elif name in toml.NAMED:
            about = f"Components of kind {toml.NAMED[name]}, under names of your own."
            found[name] = {"type": "object", "additionalProperties": _ref(toml.NAMED[name]), "description": about}
        elif name in ("places", "notices"):
            continue
        else:
            found[name] = _field(Recipe, field)
    return found


def _kind(kind: str, components: Mapping[str, Schema]) -> Schema:
    """A slot of this kind: a component's name, or its table."""
    infos = {name: info for (k, name), info in registry.components().items() if k == kind}
    names = {n: info.summary for name, info in infos.items() for n in dict.fromkeys((name, info.qualified))}
    shown = list(names.values())
    use: Schema = {"enum": list(names), "description": f"Which {kind}.", "enumDescriptions": shown}
    use["x-taplo"] = {"docs": {"enumValues": shown}}
    merged = {name: _either(ps) for name, ps in _grouped(c.get("properties", {}) for c in components.values()).items()}
    checked: Schema = {}
    for name, component in components.items():
        asked = {"properties": {"use": {"enum": [name, infos[name].qualified]}}, "required": ["use"]}
        checked = {"if": asked, "then": component, **({"else": checked} if checked else {})}
    told = registry.kinds()[kind].summary if kind in registry.kinds() else ""
    return {
        "type": ["string", "object"],
        "description": told,
        "properties": {"use": use, **merged},
        **({} if any(c.get("additionalProperties", True) for c in components.values()) else _closed()),
        "if": {"type": "string"},
        "then": {"enum": list(names)},
        "else": checked,
    }


def _closed() -> Schema:
    return {"additionalProperties": False}


def _component(info: ComponentInfo) -> Schema:
    """The settings of a component; anything, if its class cannot be imported."""
    try:
        cls = registry.load(info)
    except GenkitError as error:
        show.say(f"note: {error}")
        return {}
    made = _table(cls)
    former = getattr(cls, "former", {}).items()
    gone = {name: {"const": value, "description": "Gone: leave it out.", "deprecated": True} for name, value in former}
    return {**made, "properties": {**gone, **made["properties"], "use": True}}


def _table(cls: type) -> Schema:
    about = (inspect.getdoc(cls) or "").partition("\n\n")[0]
    properties = {name: _field(cls, field) for name, field in fields(cls)}
    return {"type": "object", "description": about, "properties": properties, "additionalProperties": False}


def _field(cls: type, field: attrs.Attribute[Any]) -> Schema:
    """A setting, a slot or a source as a property."""
    about, default = field.metadata.get("help", ""), field.default
    if "slot" in field.metadata:
        default = field.metadata["use"]
        made: Schema = {"allOf": [_ref(field.metadata["slot"])]}
        about = about or f"A component of kind {field.metadata['slot']}."
    elif field.metadata.get("source"):
        made, default = {"allOf": [_ref("source")]}, None
    else:
        made = _typed(values.type_of(cls, field))
        _narrow(made, field.validator)
    if default is attrs.NOTHING:
        return {**made, "description": f"{about} (needed)".lstrip()}
    if default is None or isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return {**made, "description": about}
    return {**made, "description": f"{about} (default: {json.dumps(default)})".lstrip(), "default": default}


def _ref(kind: str) -> Schema:
    return {"$ref": f"#/definitions/{kind}"}


def _grouped(tables: Iterable[Mapping[str, Schema]]) -> dict[str, list[Schema]]:
    """The different properties of each name in several tables."""
    found: dict[str, list[Schema]] = {}
    for properties in tables:
        for name, one in properties.items():
            if name != "use" and one not in found.setdefault(name, []):
                found[name].append(one)
    return found


def _either(properties: list[Schema]) -> Schema:
    """What holds for one of several settings of a name; those that are held to the same are told together."""
    held: dict[str, list[Schema]] = {}
    for one in properties:
        rest = {name: value for name, value in one.items() if name not in ("description", "default")}
        held.setdefault(json.dumps(rest), []).append(one)
    arms: list[Schema] = []
    for alike in held.values():
        told = dict.fromkeys(one["description"] for one in alike if one.get("description"))
        arms.append(alike[0] if len(alike) == 1 else {**alike[0], "description": "; or: ".join(told)})
        arms[-1] = {name: value for name, value in arms[-1].items() if name != "default" or len(alike) == 1}
    return arms[0] if len(arms) == 1 else {"anyOf": arms}


# ---- types and checks of settings ----------------------------------------------------------------


def _typed(wanted: Any) -> Schema:
    """What TOML has of a type; it has no null, so that None is left out."""
    if wanted in SIMPLE:
        return {"type": SIMPLE[wanted]}
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (tuple, list):
        return {"type": "array", "items": _typed(inner[0]) if inner else {}}
    if origin in (typing.Union, types.UnionType):
        arms = [_typed(arm) for arm in inner if arm is not types.NoneType]
        plain = [arm["type"] for arm in arms if list(arm) == ["type"]]
        return arms[0] if len(arms) == 1 else {"type": plain} if len(plain) == len(arms) else {"anyOf": arms}
    return {}


def _narrow(made: Schema, check: Any) -> None:
    """Add to a schema what a validator of attrs asks for; what JSON cannot say is left to `genkit recipe check`."""
    for name in ("_validators", "validator"):  # of and_, and of optional
        inner = getattr(check, name, ())
        for one in inner if isinstance(inner, tuple) else [inner]:
            _narrow(made, one)
    if hasattr(check, "validators"):  # of or_
        arms: list[Schema] = [{} for _ in check.validators]
        for arm, one in zip(arms, check.validators, strict=True):
            _narrow(arm, one)
        made["anyOf"] = arms
    if hasattr(check, "member_validator"):
        _narrow(made["items"], check.member_validator)
        _narrow(made, check.iterable_validator)
    if hasattr(check, "options"):
        made["enum"] = list(check.options)
    if hasattr(check, "compare_op"):
        made[BOUNDS[check.compare_op]] = check.bound
    if hasattr(check, "pattern"):
        made["pattern"] = f"^(?:{check.pattern.pattern})$"
    if hasattr(check, "min_length"):
        made |= {"minItems": check.min_length, "minLength": check.min_length}
    if hasattr(check, "max_length"):
        made |= {"maxItems": check.max_length, "maxLength": check.max_length}
    if isinstance(getattr(check, "type", None), type):
        made["type"] = SIMPLE.get(check.type, "object")
