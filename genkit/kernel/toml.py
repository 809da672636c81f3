"""Recipe files as plain tables: read with limits, every key's place kept."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from genkit.errors import RecipeError
from genkit.kernel.text import PART, TOKENS, decoded, explained

MAX_BYTES, MAX_SEGMENTS, MAX_KEYS = 256 * 1024, 64, 2000  # the checks of 2000 keys take a second
TOO_MANY = f"more than {MAX_KEYS} keys and tables, parts of dotted keys among them"
Key = tuple[str, ...]
Tree = dict[str, Any]

# The core's own tables. Any other table at the top is a slot of the objective: [loss] is [objective.loss].
CORE = frozenset(
    "genkit name extends dataset objective optimizer ema averages train levels evaluate metrics trackers init".split()
)
NAMED = {"metrics": "metric", "trackers": "tracker", "averages": "ema"}  # kinds of tables such as [metrics.NAME]


class Place(NamedTuple):
    """Who wrote a key, the folder that its relative paths start from, and whether it may name Python to be run."""

    file: str
    line: int | None
    folder: Path
    by_hand: bool = False

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class Places(dict[Key, Place]):
    """The place of every key that was written.

    Attributes:
        known: The keys of all settings that there are, for those that look for one elsewhere.
        lenient: Whether a component that is not installed gets a stand-in.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.known: set[Key] = set()
        self.lenient = False

    def of(self, key: Key) -> Place | None:
        """The place of a key; else of a key within it; else of the nearest table around it."""
        if key not in self and (within := next((k for k in self if k[: len(key)] == key), None)):
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


def read(path: Path, by_hand: bool = False) -> tuple[Tree, Places]:
    """One TOML file; the objective's slots are moved under it.

    Args:
        by_hand: Whether a user has named the file by its path.

    Raises:
        RecipeError: It is missing, too large or deep, or not TOML; with the line.
    """
    shown = brief(path)
    text, tree = parse(path, shown)
    lines, places = line_index(text), Places()
    for key in keys_of(tree):
        places[hoisted(key)] = Place(shown, lines.get(key), path.parent, by_hand)
    return hoist(tree, shown), places


def parse(path: Path, shown: str) -> tuple[str, Tree]:
    """The text of a TOML file and its tables as they stand.

    Raises:
        RecipeError: As `read`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(shown, f"cannot be read ({error.strerror})", "check the path") from error
    if len(data) > MAX_BYTES:
        raise RecipeError(shown, "is too long", f"a recipe has at most {MAX_BYTES} bytes")
    text = decoded(data, shown)
    line_index(text, shown)  # before the parser, whose time grows with the square of a key's parts
    try:
        return text, tomllib.loads(text)
    except RecursionError as error:
        raise RecipeError(shown, "is not TOML that can be read: nested too deep", "take out brackets") from error
    except ValueError as error:
        raise explained(text, error, shown) from error


def line_index(text: str, shown: str = "") -> dict[Key, int]:
    """Where keys and tables stand, by a scan of their tokens; those within inline tables have no line.

    Raises:
        RecipeError: There are too many, or one has too many parts.
    """
    found: dict[Key, int] = {}
    table: Key = ()
    inside, depth, number, parts, count = "", 0, 1, 0, 0  # inside of nothing, a header or a value
    for token in TOKENS.finditer(text):
        word = token[0]
        if token.lastgroup == "key":
            key = _segments(word) if not inside or len(word) > MAX_SEGMENTS else ()
            if len(key) > MAX_SEGMENTS:
                raise RecipeError(f"{shown}:{number}", "a key of too many parts", f"at most {MAX_SEGMENTS}")
            parts = word.count(".") + 1
            if inside == "header":
                table, key, count = _segments(word), (), count + parts
            if inside != "value":
                found.setdefault((*table, *key), number)
            inside = inside or "value"
        elif word == "[" and not inside:
            inside = "header"
        elif word == "\n" and depth <= 0:
            inside, depth = "", 0
        elif inside == "value":
            depth, count = depth + (word in "[{") - (word in "]}"), count + parts * (word == "=")
        if count > MAX_KEYS:
            raise RecipeError(f"{shown}:{number}", TOO_MANY, "shorten it")
        number += word.count("\n")
    return found


def _segments(text: str) -> Key:
    return tuple(part.strip("\"'") for part in re.findall(PART, text))


def keys_of(tree: Mapping[str, Any], above: Key = ()) -> Iterable[Key]:
    """The keys of tables, at every depth."""
    for name, value in tree.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from keys_of(value, (*above, name))


def leaves(tree: Mapping[str, Any], above: Key = ()) -> Iterable[tuple[Key, Any]]:
    """The values in tables, at every depth, with their keys."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*above, name))
        else:
            yield (*above, name), value


def hoisted(key: Key) -> Key:
    """A key where it belongs: those of slots below the objective."""
    return key if key[0] in CORE else ("objective", *key)


def hoist(tree: Tree, shown: str) -> Tree:
    """Move what the core does not have at the top under `objective`, where what is no slot of its is told.

    Raises:
        RecipeError: A slot is written both ways.
    """
    moved = {name: value for name, value in tree.items() if name not in CORE}
    kept = {name: value for name, value in tree.items() if name in CORE}
    given = kept.get("objective", {})
    objective = dict(given) if isinstance(given, dict) else {"use": given}
    for name, value in moved.items():
        if name in objective:
            raise RecipeError(f"{shown} {name}", f"stands also as objective.{name}", "write it once")
        objective[name] = value
    return {**kept, "objective": objective} if moved else kept


def brief(path: Path) -> str:
    """A path for messages: relative to the working directory where it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
