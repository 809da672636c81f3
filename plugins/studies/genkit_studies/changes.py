"""In what an arm differs from its baseline, a line each, and what of it its name does not say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from genkit.kernel.recipe import Recipe
from genkit.kernel.tables import Edit


def differences(one: Recipe, other: Recipe) -> tuple[str, ...]:
    """What differs in what is trained, a line each: "loss: pseudo-huber -> l2", "network.dropout: 0.0 -> 0.1"."""
    return tuple(_differences(_trained(one), _trained(other), ""))


def marked(one: Recipe, other: Recipe, edits: Iterable[Edit]) -> tuple[str, ...]:
    """The same, with "also " before what none of the edits names, and with settings that a component got by its swap.

    A swap by name alone replaces the slot's whole table: of settings that both components have, those that it changed
    are told, too. Swapping the objective replaces its slots.
    """
    named = {name for edit in edits for name in _named(edit)}
    lines = [line if line.partition(":")[0] in named else f"also {line}" for line in differences(one, other)]
    for name in sorted(named):
        a, b = (_trained(recipe).get(name) for recipe in (one, other))
        if isinstance(a, Mapping) and isinstance(b, Mapping) and a.get("use") != b.get("use"):
            both = [key for key in a if key in b and key != "use" and f"{name}.{key}" not in named]
            found = _differences({key: a[key] for key in both}, {key: b[key] for key in both}, f"{name}.")
            lines += [f"also {line}" for line in found]
    return tuple(lines)


def _named(edit: Edit) -> Iterator[str]:
    """What an edit names, as `differences` spells it: the tables around its key, the key, and those in its value."""
    for end in range(1, len(edit.key) + 1):
        yield ".".join(edit.key[:end])
        yield ".".join(edit.key[1:end])  # of the objective's slots
    for name, value in edit.value.items() if isinstance(edit.value, Mapping) else ():
        yield from _named(edit._replace(key=(*edit.key, name), value=value))


def _trained(recipe: Recipe) -> dict[str, Any]:
    tree = recipe.tree()
    return {n: v for n, v in tree.items() if n not in ("genkit", "name", "evaluate", "metrics", "trackers")}


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], above: str) -> Iterator[str]:
    for name in dict.fromkeys([*one, *other]):
        a, b, here = one.get(name), other.get(name), f"{above}{name}"
        if a == b:
            continue
        if isinstance(a, Mapping) and isinstance(b, Mapping) and a.get("use") == b.get("use"):
            yield from _differences(a, b, f"{here}.")
        else:
            yield f"{here}: {_short(a)} -> {_short(b)}"


def _short(value: Any) -> str:
    return str(value.get("use", "table")) if isinstance(value, Mapping) else "none" if value is None else str(value)
