"""A component as a table with all its defaults, those in its slots too, to paste into a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import tomli_w

from genkit.kernel import registry
from genkit.kernel.registry import ComponentInfo
from genkit.kinds import fields


def table_of(info: ComponentInfo, use: str) -> str:
    """The TOML of a component, with what each setting means; what has no default stands as a comment.

    Args:
        use: What a recipe calls it.
    """
    return "\n".join(_lines(info, use, _place(info, use), {}, info.kind == "objective")) + "\n"


def _place(info: ComponentInfo, use: str) -> str:
    """Where in a recipe a component's table stands: slots of the objective at the top, others where they can be."""
    of_kind = {"protocol": "evaluate.protocol", "features": "metrics.fd.features"}
    of_kind |= {"metric": f"metrics.{use}", "tracker": f"trackers.{use}"}
    return of_kind.get(info.kind, info.kind)


def _lines(info: ComponentInfo, use: str, place: str, given: Mapping[str, Any], top: bool = False) -> Iterator[str]:
    """A component's table, then those of its slots.

    Args:
        given: Settings that a slot has for this component in place of its own.
        top: Whether tables of slots are spelt without the component's own, as those of an objective are.
    """
    yield from (f"[{place}]", f'use = "{use}"    # {info.summary}')
    inner: list[str] = []
    for name, field in fields(registry.load(info)):
        at, text = name if top else f"{place}.{name}", field.metadata.get("help", "")
        if "slot" in field.metadata:
            inner += ["", *_slot(field, at)]
        elif field.metadata.get("source"):
            inner += ["", f"# [{at}]    # {text}".rstrip(" #"), '# from = "..."']
        else:
            yield f"{_setting(name, given.get(name, field.default))}    # {text}".rstrip(" #")
    yield from inner


def _slot(field: attrs.Attribute[Any], place: str) -> Iterator[str]:
    kind, default = field.metadata["slot"], field.metadata["use"]
    if default is None:
        yield from (f"# [{place}]    # needed: a component of kind {kind}", '# use = "..."')
    else:
        yield from _lines(registry.find(kind, default), default, place, field.metadata["with"])


def _setting(name: str, default: object) -> str:
    if default is attrs.NOTHING:
        return f"# {name} = ...  (needed)"
    if default is None or isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return f"# {name} = ..."
    value = list(default) if isinstance(default, tuple) else default
    written = " ".join(tomli_w.dumps({name: value}).split())
    return written.replace("[ ", "[").replace(", ]", "]") if isinstance(value, list) else written
