"""Tables of recipes: extended, merged, overridden and swapped."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from genkit.errors import RecipeError
from genkit.kernel import toml
from genkit.kernel.toml import Key, Place, Places, Tree, brief, hoisted, keys_of

MAX_EXTENDS, MAX_BASES, MAX_SETTINGS = 8, 64, 1000


def merge(below: Tree, above: Tree, places: Places, inherited: set[str], key: Key = ()) -> Tree:
    """`above` over `below`: tables merge, values replace, a table whose `use` changes is replaced.

    Where the objective changes, its slots and settings stay; their names go into `inherited`, and those that the
    new objective does not have, or cannot use, are dropped later.
    """
    merged = dict(below)
    for name, given in above.items():
        old, here = merged.get(name), (*key, name)
        value = {"use": given} if isinstance(given, str) and here == ("objective",) else given
        if isinstance(old, str) and isinstance(value, dict):
            old, place = {"use": old}, places.of(here)
            places |= {(*here, "use"): place} if place else {}
        if not (isinstance(value, dict) and isinstance(old, dict)):
            merged[name] = value
        elif "use" in value and value["use"] != old.get("use"):
            kept = {n: v for n, v in old.items() if n != "use"} if here == ("objective",) else {}
            inherited.update(kept)
            merged[name] = merge(kept, value, places, inherited, here)
        else:
            merged[name] = merge(old, value, places, inherited, here)
    return merged


class Layers(NamedTuple):
    """A recipe's tables after `extends`, with places and what was inherited across objectives."""

    tree: Tree
    places: Places
    inherited: set[str]


Locate = Callable[[str, Path], Path]
Chain = tuple[Path, ...]


def load(
    path: Path, locate: Locate, by_hand: bool = False, chain: Chain = (), loaded: dict[Path, Layers] | None = None
) -> Layers:
    """A recipe file and those that it extends, the named ones first; a file that several name is read once.

    Args:
        locate: Finds what `extends` names, given the name and the folder of the file that names it.
        by_hand: Whether a user has named the file by its path; so then are those that it extends by theirs.

    Raises:
        RecipeError: A file is wrong, or extends itself, or the chain is too long, or there are too many files or keys.
    """
    path, loaded = path.resolve(), {} if loaded is None else loaded
    if path in chain or len(chain) >= MAX_EXTENDS:
        shown = " -> ".join(brief(p) for p in (*chain, path))
        what = f"extends {'itself' if path in chain else 'too far'}: {shown}"
        raise RecipeError(brief(path), what, "break the chain")
    if path in loaded:
        return loaded[path]
    tree, places = toml.read(path, by_hand)
    above = tree.pop("extends", [])
    bases = [above] if isinstance(above, str) else above
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise RecipeError(places.where(("extends",)), f"expected a name or a list of names, got {above!r}")
    if len(bases) + len(loaded) > MAX_BASES:
        raise RecipeError(places.where(("extends",)), "too many files to extend", f"name at most {MAX_BASES} in all")
    below = Layers({}, Places(), set())
    for base in bases:
        told = by_hand and (path.parent / base).is_file()
        below = _over(below, load(locate(base, path.parent), locate, told, (*chain, path), loaded))
    loaded[path] = _over(below, Layers(tree, places, set()))
    return loaded[path]


def _over(below: Layers, above: Layers) -> Layers:
    inherited = below.inherited | above.inherited
    merged = merge(below.tree, above.tree, below.places, inherited)
    return _bounded(Layers(merged, Places({**below.places, **above.places}), inherited))


def _bounded(layers: Layers) -> Layers:
    if len(layers.places) > toml.MAX_KEYS:
        raise RecipeError("recipe", f"{toml.TOO_MANY}, with all that is laid over each other", "shorten it")
    return layers


class Edit(NamedTuple):
    """A value for a key, over what a recipe has; a swap replaces the whole table of a slot."""

    key: Key
    value: Any
    place: Place
    swap: bool = False


def override(layers: Layers, settings: Iterable[str], *, swap: bool = False) -> Layers:
    """`path.to.key=value` after the recipe: values as in TOML, bare words as strings.

    `slot=name` replaces the whole table, `metrics.fid=false` removes one.

    Raises:
        RecipeError: A setting has no `=` or no key.
    """
    where = "--swap" if swap else "command line"
    place = Place(where, None, Path.cwd(), by_hand=True)
    texts = list(settings)
    if len(texts) > MAX_SETTINGS:
        raise RecipeError(where, f"{len(texts)} settings, and {MAX_SETTINGS} at most", "write them in a recipe")
    return edited(layers, [Edit(*_parse(text, where), place, swap) for text in texts])


def edited(layers: Layers, edits: Iterable[Edit]) -> Layers:
    """A recipe's tables with values changed; `use` first, since it clears. What is given stays as it was."""
    tree, places, inherited = dict(layers.tree), Places(layers.places), set(layers.inherited)
    for key, given, place, swap in sorted(edits, key=lambda e: e.key[-1] != "use" and not isinstance(e.value, dict)):
        value = {"use": given} if swap and not isinstance(given, dict) else given
        above: Any = value
        for name in reversed(key):
            above = {name: above}
        out = value is False and key[0] in toml.NAMED and len(key) <= 2
        if swap or out:
            _remove(tree, places, key)
        if not out:
            tree = merge(tree, above, places, inherited)
        for written in (key, *keys_of(value, key)) if isinstance(value, dict) else (key,):
            places[written] = place
    return _bounded(Layers(tree, places, inherited))


def _remove(tree: Tree, places: Places, key: Key) -> None:
    """Take out a table, but for the objective's, whose slots stay."""
    if key == ("objective",):
        return
    for name in key[:-1]:
        tree[name] = dict(tree[name]) if isinstance(tree.get(name), dict) else {}
        tree = tree[name]
    tree.pop(key[-1], None)
    places.forget(key)


def _parse(text: str, where: str) -> tuple[Key, Any]:
    name, equals, value = text.partition("=")
    key = tuple(part.strip() for part in name.split("."))
    if not equals or not all(key):
        raise RecipeError(f"{where} {text!r}", "expected key=value", "for instance train.steps=1000")
    if len(key) > toml.MAX_SEGMENTS:
        raise RecipeError(f"{where} {text!r}", "a key of too many parts", f"at most {toml.MAX_SEGMENTS}")
    return hoisted(key), value_of(value)


def value_of(text: str) -> Any:
    """A value as in TOML, a bare word as a string."""
    whole = f"value = {text}"
    toml.line_index(whole, "command line")  # bounds what the parser is given
    try:
        return tomllib.loads(whole)["value"]
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return text.strip()
