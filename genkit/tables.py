"""Recipe files as plain tables: read with limits, extended, overridden, every key's place kept."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from genkit.errors import RecipeError

MAX_BYTES, MAX_SEGMENTS, MAX_EXTENDS = 256 * 1024, 64, 8
LONG_KEY = re.compile(rf"(?<![^\s.,{{=\[\]])[^\s.,{{=\[\]]++(?:\s*+\.\s*+[^\s.,{{=\[\]]++){{{MAX_SEGMENTS}}}\s*[\]=]")
Key = tuple[str, ...]
Tree = dict[str, Any]

# The core's own tables. Any other table at the top is a slot of the objective: [loss] is [objective.loss].
CORE = frozenset(
    "genkit name extends dataset objective optimizer ema train levels evaluate metrics trackers init".split()
)


class Place(NamedTuple):
    """Who wrote a key, and the folder that its relative paths start from."""

    file: str
    line: int | None
    folder: Path

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class Places(dict[Key, Place]):
    """The place of every key that was written.

    Attributes:
        known: Where settings of a name can stand, for those that look for them elsewhere.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.known: dict[str, str] = {}

    def of(self, key: Key) -> Place | None:
        """The place of a key; else of a key within it; else of the nearest table around it."""
        within = next((k for k in self if k[: len(key)] == key), None)
        if key not in self and within:
            return self[within]
        while key:
            if key in self:
                return self[key]
            key = key[:-1]
        return None

    def where(self, key: Key, slot: bool = False, near: Key = ()) -> str:
        """For messages: "file:line key.path".

        Args:
            slot: Whether the key is a slot, which is spelt without `objective.`.
            near: Whose place to tell instead, if that was written.
        """
        place, name = self.get(near) or self.of(key), spelt((*key, "")).rstrip(".") if slot else spelt(key)
        return f"{place} {name}" if place else name

    def forget(self, key: Key) -> None:
        """Drop a key and all below it."""
        for other in [k for k in self if k[: len(key)] == key]:
            del self[other]


def spelt(key: Key) -> str:
    """A key as people write it: the objective's slots without `objective.`."""
    if key[:1] == ("objective",) and len(key) > 2:
        key = key[1:]
    return ".".join(key)


def read(path: Path, shown: str | None = None) -> tuple[Tree, Places]:
    """One TOML file; the objective's slots are moved under it.

    Raises:
        RecipeError: It is missing, too large or deep, or not TOML; with the line.
    """
    shown = shown or _shown(path)
    text, tree = toml(path, shown)
    lines, places = line_index(text), Places()
    for key in _keys(tree):
        places[hoisted(key)] = Place(shown, lines.get(key), path.parent)
    return hoist(tree, shown), places


def toml(path: Path, shown: str) -> tuple[str, Tree]:
    """The text of a TOML file and its tables as they stand.

    Raises:
        RecipeError: As `read`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecipeError(shown, f"cannot be read ({error.strerror})", "check the path") from error
    if len(data) > MAX_BYTES:
        raise RecipeError(shown, f"is {len(data)} bytes long", f"a recipe has at most {MAX_BYTES}")
    try:
        text = data.decode("utf-8")
        if long := LONG_KEY.search(text):
            number = text.count("\n", 0, long.start()) + 1
            raise RecipeError(f"{shown}:{number}", "a key of too many parts", f"at most {MAX_SEGMENTS}")
        return text, tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise RecipeError(shown, f"is not TOML: {' '.join(str(error).split())}", "mend it there") from error


def line_index(text: str) -> dict[Key, int]:
    """Where keys and tables stand, by a scan of headers and `key =`; a key not found has no line."""
    found: dict[Key, int] = {}
    table: Key = ()
    quote = ""
    for number, line in enumerate(text.splitlines(), 1):
        if quote:
            quote = "" if quote in line else quote
            continue
        if header := re.match(r"\s*\[\[?([^\[\]=]+)\]\]?\s*(#.*)?$", line):
            table = _segments(header[1])
            found.setdefault(table, number)
        elif pair := re.match(r"\s*([\w\-.\"' ]+?)\s*=(.*)", line):
            key = table + _segments(pair[1])
            found.setdefault(key, number)
            quote = next((q for q in ('"""', "'''") if pair[2].count(q) == 1), "")
    return found


def _segments(text: str) -> Key:
    return tuple(part.strip().strip("\"'") for part in text.split("."))


def _keys(tree: Mapping[str, Any], above: Key = ()) -> Iterable[Key]:
    for name, value in tree.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from _keys(value, (*above, name))


def hoisted(key: Key) -> Key:
    """A key where it belongs: those of slots below the objective."""
    return key if key[0] in CORE else ("objective", *key)


def hoist(tree: Tree, shown: str) -> Tree:
    """Move tables that the core does not have under `objective`.

    Raises:
        RecipeError: A slot is written both ways, or something else at the top is no table.
    """
    moved = {name: value for name, value in tree.items() if name not in CORE}
    kept = {name: value for name, value in tree.items() if name in CORE}
    given = kept.get("objective", {})
    objective = dict(given) if isinstance(given, dict) else {"use": given}
    for name, value in moved.items():
        if not isinstance(value, dict | str):
            raise RecipeError(f"{shown} {name}", "unknown key", closest(name, CORE) or "see docs/recipes")
        if name in objective:
            raise RecipeError(f"{shown} {name}", f"stands also as objective.{name}", "write it once")
        objective[name] = value
    return {**kept, "objective": objective} if moved else kept


def closest(name: str, among: Iterable[str]) -> str:
    """The start of a hint: the name that was probably meant."""
    close = difflib.get_close_matches(name, sorted(among), n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def merge(below: Tree, above: Tree, places: Places, inherited: set[str], key: Key = ()) -> Tree:
    """`above` over `below`: tables merge, values replace, a table whose `use` changes is replaced.

    Where the objective changes, its slots stay; their names go into `inherited`, and those that the
    new objective does not have are dropped later.
    """
    merged = dict(below)
    for name, given in above.items():
        old, here = merged.get(name), (*key, name)
        value = {"use": given} if isinstance(given, str) and here == ("objective",) else given
        old = {"use": old} if isinstance(old, str) and isinstance(value, dict) else old
        if not (isinstance(value, dict) and isinstance(old, dict)):
            merged[name] = value
        elif "use" in value and value["use"] != old.get("use"):
            kept = {n: v for n, v in old.items() if isinstance(v, dict)} if here == ("objective",) else {}
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


def load(path: Path, locate: Callable[[str, Path], Path], chain: tuple[Path, ...] = ()) -> Layers:
    """A recipe file and those that it extends, the named ones first.

    Args:
        locate: Finds what `extends` names, given the name and the folder of the file that names it.

    Raises:
        RecipeError: A file is wrong, or extends itself, or the chain is too long.
    """
    path = path.resolve()
    if path in chain or len(chain) >= MAX_EXTENDS:
        shown = " -> ".join(_shown(p) for p in (*chain, path))
        raise RecipeError(
            _shown(path),
            f"extends itself: {shown}" if path in chain else f"extends too far: {shown}",
            "break the chain",
        )
    tree, places = read(path)
    above = tree.pop("extends", [])
    bases = [above] if isinstance(above, str) else above
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise RecipeError(places.where(("extends",)), f"expected a name or a list of names, got {above!r}")
    below = Layers({}, Places(), set())
    for base in bases:
        layer = load(locate(base, path.parent), locate, (*chain, path))
        below = _over(below, layer)
    return _over(below, Layers(tree, places, set()))


def _over(below: Layers, above: Layers) -> Layers:
    inherited = below.inherited | above.inherited
    merged = merge(below.tree, above.tree, below.places, inherited)
    return Layers(merged, Places({**below.places, **above.places}), inherited)


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
    place = Place(where, None, Path.cwd())
    return edited(layers, [Edit(*_parse(text, where), place, swap) for text in settings])


def edited(layers: Layers, edits: Iterable[Edit]) -> Layers:
    """A recipe's tables with values changed; `use` first, since it clears. What is given stays as it was."""
    tree, places, inherited = dict(layers.tree), Places(layers.places), set(layers.inherited)
    for key, given, place, swap in sorted(edits, key=lambda e: e.key[-1] != "use" and not isinstance(e.value, dict)):
        value = {"use": given} if swap and not isinstance(given, dict) else given
        above: Any = value
        for name in reversed(key):
            above = {name: above}
        out = value is False and key[0] in ("metrics", "trackers") and len(key) <= 2
        if swap or out:
            _remove(tree, places, key)
        if not out:
            tree = merge(tree, above, places, inherited)
        for written in (key, *_keys(value, key)) if isinstance(value, dict) else (key,):
            places[written] = place
    return Layers(tree, places, inherited)


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
    return hoisted(key), value_of(value)


def value_of(text: str) -> Any:
    """A value as in TOML, a bare word as a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return text.strip()


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
