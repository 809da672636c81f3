"""The text of a TOML file: its tokens, and in plain words what an editor left in it that TOML does not take."""

from __future__ import annotations

import codecs
import re
import unicodedata

from genkit.errors import RecipeError

# A string that nobody closes ends with its line or file, and nothing is ever tried twice: time is linear in the text.
PART = r"""(?:[A-Za-z0-9_-]++|"(?:\\[^\n]|[^"\\\n])*+"?+|'[^'\n]*+'?+)"""
TOKENS = re.compile(
    r'''(?P<text>"""(?:\\.|"(?!"")|[^"\\])*+"*+|\'\'\'(?:'(?!'')|[^'])*+'*+|#[^\n]*+)'''
    rf"|(?P<key>{PART}(?:[ \t]*+\.[ \t]*+{PART})*+)|(?P<mark>[\[\]{{}}=\n])",
    re.DOTALL,
)
_QUOTED = re.compile(r"""("(?:\\.|[^"\\])*+"|'[^']*+'|\#.*)""")  # may have any character but controls
_ODD, _CONTROL = re.compile(r"[^ -~\t\r]|\r(?!\Z)"), re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\Z)")
_TYPED = dict.fromkeys("‘’‚‛′`´", "'") | dict.fromkeys("“”„‟″«»", '"') | dict.fromkeys("‐‑‒–—−", "-")
_HINTS = {
    "Invalid value": 'text stands in quotes, name = "text"; numbers, true and false without',
    "Unescaped|Invalid hex": r"in double quotes a \ is written \\, or take single quotes: path = 'C:\data'",
    "Illegal character '.n'|Expected .\"|Unterminated": "close the quote on this line",
    "Unclosed": "close the bracket, and put commas between values",
    "overwrite|twice|Cannot mutate": "it stands twice: write the key or table once",
    "after a key|Expected newline|statement": "a line is key = value, or [table]",
}


def decoded(data: bytes, shown: str) -> str:
    """Bytes of a file as text, without the byte-order mark that some editors put in front.

    Raises:
        RecipeError: They are not UTF-8; with what they are, or the place.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or (0 in data[:2] and 0 in data[2:4]):
        raise RecipeError(shown, "is UTF-16 or UTF-32", "save it as UTF-8")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        before, byte = error.object[: error.start].decode("utf-8"), error.object[error.start : error.start + 1]
        where, column = f"{shown}:{before.count(chr(10)) + 1}", len(before) - before.rfind("\n")
        what = f"byte 0x{byte.hex()} in column {column} is not UTF-8, and {byte.decode('cp1252', 'replace')!r}"
        raise RecipeError(where, f"{what} in Windows-1252", "save the file as UTF-8") from error


def explained(text: str, error: Exception, shown: str) -> RecipeError:
    """What the parser dislikes, in words that help: a character that only looks right, else the parser's own words."""
    found = re.search(r" ?\(at line (\d+), column (\d+)\)", str(error))
    line, column = (int(found[1]), int(found[2])) if found else (text.count("\n") + 1, 0)
    where, written = f"{shown}:{line}", text.split("\n")[line - 1][:2000]
    bare = _QUOTED.sub(lambda quoted: "_" * len(quoted[0]), written)
    if odd := _ODD.search(bare) or _CONTROL.search(written):
        name, hint = _named(written[odd.start()])
        return RecipeError(where, f"is not TOML: column {odd.start() + 1} has {name}", hint)
    words = str(error).replace(found[0] if found else "at end of document", "").partition("; ")[0].strip(" ()")
    hint = next((hint for pattern, hint in _HINTS.items() if re.search(pattern, words)), "mend it there")
    at = f" in column {column} of {written.strip()[:80]!r}" if found else ", at the end"
    return RecipeError(where, f"is not TOML: {words}{at}", hint)


def _named(character: str) -> tuple[str, str]:
    """A character's name, and what to do about it."""
    code, plain = f"U+{ord(character):04X}", unicodedata.normalize("NFKC", character)
    if character == "\r":
        return f"a carriage return alone ({code})", "save it with line ends of Unix or Windows"
    name = "NUL" if character == "\0" else unicodedata.name(character, "a control character").lower()
    if typed := _TYPED.get(character, plain if plain != character and plain.isascii() else ""):
        return f"{name} ({code})", f"type {'a plain space' if typed == ' ' else typed}"
    if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Mn"):
        return f"{name} ({code}), which is hard to see", "delete it"
    return f"{name} ({code}) outside of quotes", "put the text in quotes"
