"""Recipes of every sort: each is answered at once, in lines that name what is wrong, and in little memory."""

import re
import string
from pathlib import Path

import pytest
from driver import RING, Done, Forked, documented, genkit, refused
from hostile import plain
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from marks import point

SECONDS, MB = 2, 300
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def answered(done, codes=(0, 2, 3)):
    """At once, in little memory, with a code, and a line for each problem."""
    documented(done, set(codes))
    assert done.cpu < SECONDS, f"{done.cpu} s"
    assert done.mb - plain() < MB, f"{done.mb - plain():.0f} MB"
    for line in done.err.removesuffix("\n").split("\n") if done.err else ():
        assert line.startswith(("genkit: ", "note: ")) and len(line) < 2000 and not CONTROL.search(line), repr(line)
    assert done.out.endswith(": fine\n") if done.code == 0 else done.lines


def check(raw, seconds=10.0):
    Path("own.toml").write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return Forked(["recipe", "check", "own.toml"]).wait(seconds)


# ---- recipes that hypothesis makes ----------------------------------------------------------------

TABLES = """dataset objective network parameterization curriculum noise loss weighting path teacher sampler
optimizer ema train evaluate levels init metrics.fd metrics trackers.tb loss.loss extends name genkit""".split()
KEYS = """use lr decay s0 s1 c p_mean p_std steps batch_size seed seeds samples width depth precision threads features
weights from best every_steps sigma_max rho levels keep_checkpoints micro_batch reference path labels extends""".split()
WORDS = """ring digits consistency mlp unet exponential lognormal pseudo-huber l2 stop-grad ema radam adam constant fd
cosine pixels inception multistep hdf5 image-folder ict_ring float32 bf16 true latest no/such/path ../.. """.split()
odd = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=40)  # those: see below
quoted = (st.sampled_from(WORDS) | odd).map(lambda text: '"' + "".join(f"\\U{ord(c):08x}" for c in text) + '"')
numbers = st.sampled_from(
    ["0", "-1", "1", "3", "0.5", "1e400", "-0.0", "inf", "-inf", "nan", "1_000", "0x10", "1e-320"]
)
huge = st.integers(-(10**30), 10**30).map(str) | st.integers(1, 5000).map(lambda n: "9" * n)
others = st.sampled_from(["true", "false", "1979-05-27", "07:32:00", "''", '"""a\nb"""', "[]", "{}", "[[[]]]", "=", ""])
values = st.recursive(
    quoted | numbers | huge | others,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda v: f"[{', '.join(v)}]")
        | st.lists(st.tuples(st.sampled_from(KEYS), inner), max_size=3).map(
            lambda pairs: "{" + ", ".join(f"{k} = {v}" for k, v in pairs) + "}"
        )
    ),
    max_leaves=6,
)
bare = st.text(string.ascii_letters + "-_.", min_size=1, max_size=90)
keys = st.sampled_from(KEYS) | st.sampled_from(TABLES) | bare | quoted
lines = st.one_of(
    st.tuples(keys, values).map(" = ".join),
    st.sampled_from(TABLES).map(lambda name: f"[{name}]"),
    st.tuples(st.sampled_from(TABLES), st.sampled_from(WORDS)).map(lambda pair: f'[{pair[0]}]\nuse = "{pair[1]}"'),
    st.sampled_from(
        ["# a comment", "[[train]]", "[train", "]", "a.b.c.d.e.f = 1", "genkit = 1", 'extends = "ict_ring"']
    ),
    st.integers(1, 2000).map(lambda depth: "a = " + "[" * depth + "]" * depth),
    st.integers(1, 200).map(lambda parts: ".".join(["a"] * parts) + " = 1"),
)
BASE = 'extends = "ict_ring"\n'
texts = st.tuples(st.sampled_from(["", BASE]), st.lists(lines, max_size=8)).map(lambda t: t[0] + "\n".join(t[1]) + "\n")
WRITTEN = {
    "utf-8": lambda text: text.encode("utf-8", "replace"),
    "BOM": lambda text: text.encode("utf-8-sig", "replace"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode("utf-8", "replace"),
    "CR": lambda text: text.replace("\n", "\r").encode("utf-8", "replace"),
    "UTF-16": lambda text: text.encode("utf-16", "replace"),
    "Latin-1": lambda text: (text + "# \xe4\n").encode("latin-1", "replace"),
    "NUL": lambda text: text.encode("utf-8", "replace") + b"\0\n",
}
recipes = st.tuples(texts, st.sampled_from(["utf-8"] * 6 + list(WRITTEN))).map(lambda pair: WRITTEN[pair[1]](pair[0]))


def test_any_recipe_is_answered_at_once_in_lines_that_name_what_is_wrong(request, thorough):
    @seed(request.config.getoption("faults_seed", "0"))
    @settings(
        max_examples=3000 if thorough else 40,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink] if thorough else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(recipes)
    def each(raw):
        answered(check(raw))

    each()


# ---- recipes that were found to be hard -----------------------------------------------------------


def slow(text, *what):
    return pytest.param(text, marks=point(13, "longer than two seconds"), id=what[0])


HARD = [
    slow('extends = "ict_ring"\n' + "".join(f"[t{i}]\n" for i in range(20_000)), "20,000 headers"),
    slow("".join(f"[metrics.m{i}]\n" for i in range(12_000)), "12,000 metrics"),
    slow("a." * 100_000, "a dotted key that ends in a dot"),
    slow("a." * 100_000 + " = 1\n", "a dotted key that ends in a dot, and a value"),
    pytest.param("".join(f"[t{i}]\n" for i in range(20_000)), id="20,000 headers and nothing else"),
    pytest.param(".".join(["a"] * 8000) + " = 1\n", id="a key of 8,000 parts"),
    pytest.param("a = " + "[" * 60_000, id="60,000 brackets"),
    pytest.param("a = " + "9" * 200_000, id="a number of 200,000 digits"),
    pytest.param('a = "' + "x" * 250_000 + '"\n', id="a string of 250,000 letters"),
    pytest.param("x" * 250_000 + " = 1\n", id="a key of 250,000 letters", marks=point("G", "it is told whole")),
    pytest.param("".join(f"k{i} = 1\n" for i in range(20_000)), id="20,000 keys"),
    pytest.param("a = 1\n" * 20_000, id="one key 20,000 times"),
    pytest.param("[a]\n" + "".join(f"b.k{i} = 1\n" for i in range(10_000)), id="10,000 dotted keys"),
    pytest.param("[[a]]\n" * 20_000, id="20,000 tables of an array"),
    pytest.param("#" * 250_000, id="a long comment"),
    pytest.param("a = {" * 5000, id="5,000 braces"),
    pytest.param('"' * 200_000, id="200,000 quotes"),
    pytest.param(b"\xff\xfe" * 1000, id="no text"),
    pytest.param(" " * 300_000, id="too long"),
]


@pytest.mark.parametrize("text", HARD)
def test_a_recipe_that_is_hard_to_read_is_refused_at_once(text):
    answered(check(text, 5), {0, 2} if text[0] == "#" else {2})


@pytest.mark.parametrize(("levels", "width"), [(2, 2), pytest.param(6, 12, marks=point(13, "more than 20 s"))])
def test_a_base_that_is_named_again_and_again_is_read_at_once(levels, width):
    for level in range(levels):
        base = f"base{level + 1}.toml" if level < levels - 1 else "ict_ring"
        Path(f"base{level}.toml").write_text(f"extends = [{', '.join([repr(base)] * width)}]\n")
    answered(check('extends = "base0.toml"\n', 5), {0, 2})


def test_recipes_that_extend_each_other_are_refused_at_once():
    Path("other.toml").write_text('extends = "own.toml"\n')
    refused(check('extends = "other.toml"\n'), {2})


@pytest.mark.parametrize(
    ("name", "names"),
    [("BOM", "byte order|BOM"), ("CR", "line end|return|CR"), ("UTF-16", "UTF-16"), ("NUL", "NUL|zero")],
)
@point(12, "the parser's bare words, where nothing visible is wrong")
def test_what_an_editor_did_to_a_recipe_is_named(name, names):
    done = check(WRITTEN[name](BASE + "[train]\nsteps = 3\n"))
    assert done.code == 0 or refused(done, {2}, [names]) is None
    assert "mend it there" not in done.err


@point("J", "a terminal is given them as they are")
@pytest.mark.parametrize("letter", ["1b", "07", "0a", "1f", "9b", "2028"])
def test_letters_that_steer_a_terminal_are_spelt_out(letter):
    for text in ('[dataset]\nuse = "ring"\n"a{}" = 1\n', '[loss]\nuse = "a{}"\n', 'name = "a{}"\n', '"a{}" = 1\n'):
        answered(check(BASE + text.format(f"\\u{letter:0>4}[2J")), {2})


def test_lines_that_end_as_elsewhere_are_read():
    answered(check(WRITTEN["CRLF"](BASE + "[train]\nsteps = 3\n")), {0})


# ---- settings that cannot be meant ----------------------------------------------------------------

SETTINGS = {
    9: """optimizer.lr=inf levels.sigma_max=inf levels.rho=inf loss.c=inf noise.p_mean=nan
       noise.p_mean=inf noise.p_std=inf train.seed=18446744073709551616 levels.rho=0.001 network.fourier_scale=inf""",
    10: "sampler.levels=[100.0] sampler.levels=[0.5,0.8] evaluate.best=fd.fdd@1",
    8: "train.threads=1000000000 evaluate.samples=1000000000000 network.width=200000000 train.batch_size=1000000000000",
}
MEANT = [pytest.param(word, marks=point(n, "accepted")) for n, words in SETTINGS.items() for word in words.split()]
REFUSED = """optimizer.lr=-1 optimizer.lr=nan train.steps=0 train.steps=1e3 train.seed=-1 loss.c=nan levels.rho=nan
ema.decay=2""".split()


@pytest.mark.parametrize("setting", [*MEANT, *REFUSED])
def test_a_setting_that_cannot_be_meant_is_refused_before_anything_is_done(setting):
    more = ["evaluate.every_steps=20"] if "best" in setting else []
    done = Forked([*RING, "loss=pseudo-huber", setting, *more, "--dry-run"]).wait(20)
    refused(done, {2, 4}, [setting.partition("=")[0].rpartition(".")[2]])
    assert done.mb - plain() < MB


def test_control_an_answer_that_is_late_large_or_rough_is_told_apart():
    genkit("recipe", "check", "ict_ring")
    good = {"code": 2, "err": "genkit: own.toml: is not TOML", "cpu": 0.1, "mb": plain()}
    answered(Done(**good))
    for bad in ({"cpu": 2.1}, {"mb": plain() + 301}, {"code": 1}, {"code": -9}, {"err": ""}, {"err": "KeyError: 3"},
                {"err": "genkit: a\x1b[31m"}, {"err": "genkit: bad\nTraceback (most recent call last):"}):  # fmt: skip
        with pytest.raises(AssertionError):
            answered(Done(**{**good, **bad}))
