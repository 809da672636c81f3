"""Recipe files as plain tables: read with limits, every key's place kept."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from genkit.errors import RecipeError

MAX_BYTES, MAX_SEGMENTS = 256 * 1024, 64
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
        lenient: Whether a component that is not installed gets a stand-in.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.known: dict[str, str] = {}
        self.lenient = False

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


def read(path: Path) -> tuple[Tree, Places]:
    """One TOML file; the objective's slots are moved under it.

    Raises:
        RecipeError: It is missing, too large or deep, or not TOML; with the line.
    """
    shown = brief(path)
    text, tree = parse(path, shown)
    lines, places = line_index(text), Places()
    for key in keys_of(tree):
        places[hoisted(key)] = Place(shown, lines.get(key), path.parent)
    return hoist(tree, shown), places


def parse(path: Path, shown: str) -> tuple[str, Tree]:
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


def keys_of(tree: Mapping[str, Any], above: Key = ()) -> Iterable[Key]:
    """The keys of tables, at every depth."""
    for name, value in tree.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from keys_of(value, (*above, name))


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


def brief(path: Path) -> str:
    """A path for messages: relative to the working directory where it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
