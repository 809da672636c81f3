"""Recipe files as people's editors leave them, and as somebody writes them who means no good."""

import itertools
import time
import tomllib

import pytest

from genkit.errors import RecipeError
from genkit.kernel import toml
from genkit.kernel.loading import load_recipe

BASE = 'dataset.use = "ring"\nobjective.use = "consistency"\nnetwork.use = "mlp"\ntrain.steps = 10\n'
LINES = BASE.count("\n")


def answer(path, text, overrides=(), swaps=()):
    """What a recipe is told, and the CPU seconds that it takes."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    begun = time.process_time()
    try:
        load_recipe(path, overrides, swaps)
        told = ""
    except RecipeError as error:
        told = str(error)
    return told, time.process_time() - begun


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load_recipe("ict_ring")  # imports are no part of the time
    return tmp_path / "r.toml"


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + BASE.encode(),
        BASE.replace("\n", "\r\n"),
        BASE.replace(" ", "\t"),
        BASE + "# “curly” — and\u00a0more\n",
        BASE + '[metrics."“fd”"]\nuse = "fd"\n',
        BASE + " " * 200_000 + "\n",
    ],
    ids=["byte-order mark", "crlf", "tabs", "comment", "quoted", "spaces"],
)
def test_what_toml_takes_is_read(path, text):
    told, seconds = answer(path, text)
    assert told == "" and seconds < 1


ODD = {
    "no-break space": ("train.seed\u00a0= 1", 11, "no-break space (U+00A0); type a plain space"),
    "behind": ("train.seed = 1\u00a0", 15, "no-break space (U+00A0); type a plain space"),
    "indented": ("\u2003train.seed = 1", 1, "em space (U+2003); type a plain space"),
    "zero width": ("train.se\u200bed = 1", 9, "zero width space (U+200B), which is hard to see; delete it"),
    "mark": ("\ufefftrain.seed = 1", 1, "zero width no-break space (U+FEFF), which is hard to see; delete it"),
    "soft hyphen": ("train.se\u00aded = 1", 9, "soft hyphen (U+00AD), which is hard to see; delete it"),
    "curly": ("name = “bar”", 8, 'left double quotation mark (U+201C); type "'),
    "mixed": ('name = "bar”', 12, 'right double quotation mark (U+201D); type "'),
    "single": ("name = ‘bar’", 8, "left single quotation mark (U+2018); type '"),
    "guillemets": ("name = «bar»", 8, 'left-pointing double angle quotation mark (U+00AB); type "'),
    "digits": ("train.seed = １０", 14, "fullwidth digit one (U+FF11); type 1"),
    "equals": ("train.seed ＝ 1", 12, "fullwidth equals sign (U+FF1D); type ="),
    "minus": ("noise.p_mean = −1.1", 16, "minus sign (U+2212); type -"),
    "NUL": ('name = "a\0b"', 10, "NUL (U+0000), which is hard to see; delete it"),
    "bell": ("# a\x07b", 4, "a control character (U+0007), which is hard to see; delete it"),
    "line separator": ("train.seed = 1\u2028", 15, "line separator (U+2028), which is hard to see; delete it"),
    "letter": (
        "größe = 1",
        3,
        "latin small letter o with diaeresis (U+00F6) outside of quotes; put the text in quotes",
    ),
}


@pytest.mark.parametrize(("line", "column", "told"), ODD.values(), ids=ODD)
def test_a_character_that_only_looks_right_is_named_with_its_place(path, line, column, told):
    found, _ = answer(path, f"{BASE}name = 'it’s'\n{line}\n" if "name" not in line else f"{BASE}# it’s\n{line}\n")
    assert found == f"r.toml:{LINES + 2}: is not TOML: column {column} has {told}"


WRONG = {
    "unquoted": ("name = bar", "in column 8 of 'name = bar'; text stands in quotes"),
    "True": ("train.compile = True", "true and false without"),
    "Windows path": (r'init.from = "C:\data"', r"or take single quotes: path = 'C:\data'"),
    "open": ('name = "bar', "close the quote"),
    "bracket": ("evaluate.steps = [1, 2", "close the bracket"),
    "twice": ("train.steps = 3", "write the key or table once"),
    "colon": ("name: bar", "a line is key = value, or [table]"),
    "two": ("train.seed = 1 name = 'x'", "a line is key = value, or [table]"),
    "odd elsewhere": ("name = 'it’s' x", "a line is key = value, or [table]"),
}


@pytest.mark.parametrize(("line", "told"), WRONG.values(), ids=WRONG)
def test_what_the_parser_dislikes_comes_with_its_line_and_a_remedy(path, line, told):
    found, _ = answer(path, f"{BASE}{line}\n")
    assert found.startswith(f"r.toml:{LINES + 1 + ('the end;' in found)}: is not TOML: ")
    assert told in found and "mend it there" not in found and "\n" not in found


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (BASE.encode("utf-16"), "r.toml: is UTF-16 or UTF-32; save it as UTF-8"),
        (BASE.encode("utf-16-be"), "r.toml: is UTF-16 or UTF-32; save it as UTF-8"),
        (BASE.encode("utf-32"), "r.toml: is UTF-16 or UTF-32; save it as UTF-8"),
        ((BASE + "# bär").encode("latin-1"), f"r.toml:{LINES + 1}: byte 0xe4 in column 4 is not UTF-8, and 'ä' in"),
        (BASE.replace("\n", "\r").encode(), "r.toml:1: is not TOML: column 21 has a carriage return alone (U+000D)"),
    ],
    ids=["utf-16", "utf-16 without a mark", "utf-32", "latin-1", "carriage returns"],
)
def test_a_file_of_another_encoding_is_told_so(path, data, told):
    found, _ = answer(path, data)
    assert found.startswith(told) and "save" in found and "\n" not in found


# ---- time ----------------------------------------------------------------------------------------


MANY = 20_000
LARGE = {
    "headers": "".join(f"[t{i}]\n" for i in range(MANY)),
    "keys": "".join(f"k{i} = 1\n" for i in range(MANY)),
    "arrays of tables": "[[x]]\n" * MANY,
    "a key that ends in a dot": "a." * 125_000,
    "a long key": "a." * 125_000 + "a = 1",
    "a long header": "[" + "a." * 125_000 + "a]",
    "long keys": "".join(f"k{i}." + "a." * 60 + "b = 1\n" for i in range(1800)),
    "deep tables": "".join("[" + "a." * 60 + f"b{i}]\n" for i in range(1800)),
    "an inline table": "x = {" + ", ".join(f"k{i} = 1" for i in range(MANY)) + "}",
    "inline tables": "x = {" + ", ".join("a." * 60 + f"k{i} = 1" for i in range(1800)) + "}",
    "tables in an array": "x = [" + "{a = 1}, " * MANY + "]",
    "nested": "x = " + "{a = " * 3000 + "1" + "}" * 3000,
    "brackets": "x = " + "[" * 200_000,
    "quotes": '"' * 250_000,
    "escaped quotes": '\\"' * 125_000,
    "open quotes": '"\\' * 125_000,
    "long quotes": '"""\\' * 60_000,
    "apostrophes": "'" * 250_001,
    "a long string": BASE + f"name = '{'x' * 250_000}'\n",
    "a long name": BASE + f"[loss]\nuse = '{'x' * 250_000}'\n",
    "a long bare word": "x" * 250_000 + " = 1\n",
    "a long list": BASE + "evaluate.steps = [" + "1, " * 80_000 + "]\n",
    "unknown keys": BASE + "[loss]\nuse = 'pseudo-huber'\n" + "".join(f"kee{i} = 1\n" for i in range(1900)),
    "unknown slots": BASE + "".join(f"[slot{i}]\n" for i in range(1900)),
    "metrics": BASE + "".join(f"[metrics.m{i}]\nuse = 'fd'\nfloor = 1\n" for i in range(390)),
    "odd characters": "\u00a0" * 100_000,
    "comments": "#\u00a0\n" * 60_000 + "x",
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_no_file_takes_long(path, text):
    told, seconds = answer(path, text)
    assert told and seconds < 2
    assert max(map(len, told.splitlines())) < 6000


def test_a_cap_is_said(path):
    assert f"more than {toml.MAX_KEYS} keys and tables" in answer(path, LARGE["headers"])[0]
    assert f"at most {toml.MAX_SEGMENTS}" in answer(path, LARGE["a key that ends in a dot"])[0]
    assert f"at most {toml.MAX_BYTES} bytes" in answer(path, "#" * 300_000)[0]


def test_many_bases_are_read_once_each(path):
    names = [f"l{i}.toml" for i in range(7)]
    path.with_name(names[0]).write_text(BASE)
    for below, above in itertools.pairwise(names):
        path.with_name(above).write_text(f"extends = [{', '.join([repr(below)] * 12)}]\n")
    assert answer(path, f"extends = '{names[-1]}'") == ("", pytest.approx(0, abs=2))


def test_bases_are_counted(path):
    path.with_name("b.toml").write_text(BASE)
    told, seconds = answer(path, "extends = [" + "'b.toml', " * MANY + "]")
    assert "r.toml:1 extends: too many files to extend; name at most 64 in all" in told and seconds < 2


def test_the_keys_of_all_bases_are_counted(path):
    for i in range(20):
        path.with_name(f"b{i}.toml").write_text("".join(f"[t{i}_{j}]\n" for j in range(1900)))
    told, seconds = answer(path, "extends = [" + ", ".join(f"'b{i}.toml'" for i in range(20)) + "]")
    assert f"more than {toml.MAX_KEYS} keys" in told and seconds < 2


@pytest.mark.parametrize(
    ("overrides", "swaps", "told"),
    [
        ([f"train.k{i}=1" for i in range(900)], [], "unknown key 'k0'"),
        ([], [f"slot{i}=x" for i in range(900)], "has no slot 'slot0'"),
        ([f"train.k{i}=1" for i in range(MANY)], [], "1000 at most"),
        (["a." * 60_000 + "b=1"], [], "too many parts"),
        (["loss={" + "a." * 60_000 + "b=1}"], [], "too many parts"),
        (["loss={" + ",".join(f"k{i}=1" for i in range(MANY)) + "}"], [], "more than 2000 keys"),
        (["loss.c=" + "[" * 30_000], [], "expected float"),
        (["name=" + "x" * 120_000], [], "must match"),
        (["x" * 120_000 + "=1"], [], "unknown key"),
    ],
    ids=["keys", "swaps", "too many", "deep key", "deep value", "inline", "brackets", "word", "long key"],
)
def test_no_command_line_takes_long(path, overrides, swaps, told):
    found, seconds = answer(path, BASE, overrides, swaps)
    assert told in found and seconds < 2
    assert max(map(len, found.splitlines())) < 6000


def test_lines_of_keys_are_those_of_the_parser():
    text = 'a."b.c" = 1\r\n# x = 2\n[t."u.v"]\n"w x" = """\ny = 3 [z]\n""" # "\nl = [\n  "[q]", {r = 1},\n]\nz = "#"\n'
    assert toml.line_index(text) == {
        ("a", "b.c"): 1,
        ("t", "u.v"): 3,
        ("t", "u.v", "w x"): 4,
        ("t", "u.v", "l"): 7,
        ("t", "u.v", "z"): 10,
    }
    assert set(toml.keys_of(tomllib.loads(text))) >= set(toml.line_index(text))
