"""Values of settings, checked by their types.

cattrs does it, with strict hooks, since by itself it takes "3", true and 2.7 for ints.
"""

from __future__ import annotations

import sys
import types
import typing
from pathlib import Path
from typing import Any

import attrs
import cattrs


def structured(value: Any, wanted: Any) -> Any:
    """A value as the type that is wanted.

    Raises:
        ValueError: It is none such.
    """
    return _CONVERTER.structure(value, wanted)


def type_of(cls: type, field: attrs.Attribute[Any]) -> Any:
    """The type of a field, also where annotations are strings."""
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
    return tuple(_CONVERTER.structure(v, (typing.get_args(wanted) or (Any,))[0]) for v in value)


def _union(value: Any, wanted: Any) -> Any:
    arms, reasons = typing.get_args(wanted), []
    if value is None and types.NoneType in arms:
        return None
    for arm in arms:
        try:
            return _CONVERTER.structure(value, arm)
        except (ValueError, TypeError) as error:
            reasons.append(str(error))
    raise ValueError(reasons[0])


def _origin(wanted: Any) -> Any:
    return typing.get_origin(wanted)


_CONVERTER = cattrs.Converter(detailed_validation=False)
_CONVERTER.register_structure_hook(int, _exact(int))
_CONVERTER.register_structure_hook(float, _exact(float, int))
_CONVERTER.register_structure_hook(str, _exact(str))
_CONVERTER.register_structure_hook(bool, _exact(bool))
_CONVERTER.register_structure_hook(Path, _exact(str, type(Path())))
_CONVERTER.register_structure_hook(types.NoneType, _exact())
_CONVERTER.register_structure_hook_func(lambda t: _origin(t) in (tuple, list), _sequence)
_CONVERTER.register_structure_hook_func(lambda t: _origin(t) in (typing.Union, types.UnionType), _union)
