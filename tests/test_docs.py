"""What the documentation says is done: its code runs, its commands parse, its recipes resolve, its lists are complete.

Blocks: ```python runs, in order, in one namespace a page. A {code-block} with a caption is a file of that name; a
second one of the same name continues it. A {code-block} python without a caption is only parsed. ```toml is a recipe,
or part of one, tried on top of ict_digits. ```console has commands, behind `$` where there is output too.
"""

import ast
import configparser
import importlib
import importlib.util
import linecache
import re
import shlex
import subprocess
import sys
import tomllib
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import typer

import genkit
from genkit import errors, hookspecs
from genkit.cli import dispatch
from genkit.kernel import discovery
from genkit.kernel.loading import load_recipe
from genkit.kinds import KINDS
from genkit.testing import laws, present, provide
from genkit_studies import ablation, designs

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md"]
FENCE = re.compile(r"^```(?:\{code-block\} )?(\w+)\n(?::caption: '`([^\n]+)`'\n)?(.*?)^```$", re.MULTILINE | re.DOTALL)
RUNS_RECIPES = {("run",), ("ablate",), ("recipe", "check"), ("recipe", "show")}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


class Block(NamedTuple):
    language: str
    file: str
    text: str
    line: int
    runs: bool

    def parsed(self, page):
        text, name = "\n" * self.line + self.text, f"{page} (python)"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)  # as a cell of a notebook has
        return compile(text, name, "exec")


def blocks(page, *languages):
    text = page.read_text()
    found = [
        Block(m[1], m[2] or "", m[3].strip("\n") + "\n", text[: m.start(3)].count("\n"), "{" not in m[0].split("\n")[0])
        for m in FENCE.finditer(text)
    ]
    return [block for block in found if not languages or block.language in languages]


def files(page):
    """The files that a page shows, by name."""
    whole = {}
    for block in blocks(page):
        if block.file:
            whole[block.file] = whole.get(block.file, "") + block.text + "\n\n"
    return whole


@pytest.fixture
def at_hand(tmp_path):
    """`at_hand(page)`: the page's files are in the working directory, and its plugins as if installed."""
    with ExitStack() as stack:

        def enter(page):
            shown = files(page)
            for _, words in commands(page):
                if words[:3] == ["genkit", "plugins", "new"]:  # what it writes is at hand, too
                    context = parse(words[1:])[1]
                    context.command.callback(**context.params)
            for name, text in shown.items():
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(text)
            for project in tmp_path.glob("*/pyproject.toml"):
                entries = tomllib.loads(project.read_text())["project"]["entry-points"]["genkit"]
                for plugin, module in entries.items():
                    provide(tmp_path / "site", plugin, module)
                stack.enter_context(present(project.parent, tmp_path / "site"))
            return shown

        yield enter


@each_page
def test_the_python_of_a_page_runs(page, at_hand):
    at_hand(page)
    namespace = {"__name__": page.stem}
    for block in blocks(page, "python"):
        code = block.parsed(page)  # all of it is Python; what runs is not marked as a file
        if block.runs:
            exec(code, namespace)


@each_page
def test_every_toml_of_a_page_is_a_recipe_that_resolves(page, at_hand):
    shown = at_hand(page)
    for name in shown:
        if name.startswith("studies/"):
            designs.arms(ablation.ask(name))
        elif name.endswith(".toml") and not name.endswith("pyproject.toml"):
            load_recipe(name)
    for i, block in enumerate(b for b in blocks(page, "toml") if not b.file):
        part = Path(f"part-{i}.toml")
        whole = re.search(r"^(genkit|extends) =", block.text, re.MULTILINE)
        part.write_text(block.text if whole else f'extends = "ict_digits"\n{block.text}')
        load_recipe(part)


def commands(page):
    """(line, words) of every command of a page."""
    for block in blocks(page, "console", "bash"):
        text = block.text.replace("\\\n", " ")
        lines = re.findall(r"^\$ (.*)$", text, re.MULTILINE) or text.splitlines()
        for line in lines:
            for part in line.split("&&"):
                if words := shlex.split(part, comments=True):
                    yield line, words


def parse(words):
    """The command that words after `genkit` name, as a click context; nothing is carried out."""
    words = [word for word in words if word != "--debug"]
    for option in ("--plugins", "--without"):
        while option in words:
            at = words.index(option)
            assert set(words[at + 1].split(",")) <= {p.name for p in discovery.installed().all}, words
            del words[at : at + 2]
    there = {**dispatch.COMMANDS, **dispatch._plugin_commands()}
    if words[0] in dispatch.OPTIONS:
        return (), None
    assert words[0] in there, f"no command {words[0]!r}"
    command = typer.main.get_command(dispatch.app({words[0]: there[words[0]]}))
    path, rest = (), words
    while hasattr(command, "commands"):
        assert rest and rest[0] in command.commands, f"no command {' '.join(words)!r}"
        path, command, rest = (*path, rest[0]), command.commands[rest[0]], rest[1:]
    try:
        return path, command.make_context(path[-1], list(rest))
    except (Exception, SystemExit) as error:  # typer's own exceptions differ between its versions
        raise AssertionError(f"{' '.join(words)!r}: {error}") from error


def known(page):
    """Hold every command of a page against what there is."""
    environments = configparser.ConfigParser(interpolation=None)
    environments.read(ROOT / "tox.ini")
    for line, words in commands(page):
        if words[0] == "tox":
            assert f"testenv:{words[words.index('-e') + 1]}" in environments, line
        elif words[0] == "genkit":
            path, context = parse(words[1:])
            if path in RUNS_RECIPES:
                check(context.params)
        elif words[:4] == ["python", "-m", "pip", "install"]:
            for word in (word.partition("[")[0] for word in words[4:]):
                is_path = word.startswith((".", "/"))
                assert not is_path or Path(word).is_dir() or list(ROOT.glob(word.removeprefix("./"))) or word == ".", (
                    line
                )
                assert is_path or word.startswith("-") or word == "tox", f"{line}: not ours to install by name"
        else:
            assert words[0] in ("python", "git", "cd"), f"unknown command: {line}"


@each_page
def test_every_command_in_running_text_is_known(page, at_hand):
    at_hand(page)
    prose = FENCE.sub("", page.read_text())
    there = {**dispatch.COMMANDS, **dispatch._plugin_commands()}
    for line in re.findall(r"`genkit ([^`]+)`", prose):
        words = [word for word in line.split() if word not in dispatch.OPTIONS and not re.match(r"--|[A-Z<…]", word)]
        words = words[1:] if line.startswith(("--without", "--plugin ")) else words
        if not words:
            continue
        assert words[0] in there, line
        command = typer.main.get_command(dispatch.app({words[0]: there[words[0]]})).commands[words[0]]
        assert len(words) == 1 or not hasattr(command, "commands") or words[1] in command.commands, line


def check(given):
    recipe, overrides, swaps = given["recipe"], given["overrides"] or [], given.get("swap") or []
    if "design" in given and (swaps or given["start"] or recipe):
        told = {"origin": given["start"], "to": given["to"], "design": given["design"]}
        designs.arms(ablation.ask(recipe or (None if given["start"] else "ict_digits"), swaps, overrides, **told))
    elif recipe:
        load_recipe(recipe, overrides, swaps)


@each_page
def test_every_command_of_a_page_is_known_and_its_recipe_resolves(page, at_hand):
    at_hand(page)
    known(page)


@pytest.mark.parametrize(
    "line",
    [
        "genkit runn ict_ring",
        "genkit runs lst",
        "genkit run ict_ring --sawp loss=l2",
        "genkit run ict_rign",
        "genkit run ict_ring train.stesp=3",
        "genkit ablate ict_ring --swap loss=l3",
        "pip install genkit",
        "python -m pip install genkit",
        "tox run -e quickstrat",
    ],
)
def test_a_wrong_command_on_a_page_is_noticed(tmp_path, line):
    page = tmp_path / "page.md"
    page.write_text(f"```console\n$ {line}\n```\n")
    with pytest.raises((AssertionError, errors.GenkitError)):
        known(page)


def test_the_zoo_has_a_lawful_component_of_every_kind(at_hand):
    at_hand(DOCS / "hooks.md")
    zoo = [info for info in genkit.components().values() if info.distribution == "genkit-probe-zoo"]
    assert {info.kind for info in zoo} == {*KINDS, "greeting"}
    for info in zoo:
        laws.check(genkit.component(info.kind, info.name))


def test_each_hook_has_one_heading():
    hooks = [name for name in vars(hookspecs) if name.startswith("genkit_")]
    assert sorted(re.findall(r"^### (\w+)$", (DOCS / "hooks.md").read_text(), re.MULTILINE)) == sorted(hooks)


def test_a_command_of_the_zoo_says_hello(at_hand, capsys):
    at_hand(DOCS / "hooks.md")
    with pytest.raises(SystemExit) as done:
        dispatch.main(["greet", "Ada"])
    assert done.value.code == 0 and capsys.readouterr().out == "Good day, Ada\n"


def test_the_plugin_of_the_page_installs_and_passes_its_own_test(at_hand, tmp_path):
    page = DOCS / "write-a-plugin.md"
    shown = files(page)
    for name, text in shown.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--quiet", "--target", str(tmp_path / "installed")]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, *options, "./genkit-lab-cauchy"], check=True, capture_output=True, timeout=120)
    with present(tmp_path / "installed"):
        assert genkit.components()["loss", "cauchy"].distribution == "genkit-lab-cauchy"
        (test,) = [name for name in shown if "/tests/" in name]
        spec = importlib.util.spec_from_file_location("test_of_the_page", tmp_path / test)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for name in [name for name in vars(module) if name.startswith("test_")]:
            getattr(module, name)()


def test_a_loss_of_ones_own_takes_25_lines():
    first = [b for b in blocks(DOCS / "write-a-plugin.md", "python") if b.file][:2]
    code = [line for block in first for line in block.text.splitlines() if line.strip()]
    assert [b.file.rpartition("/")[2] for b in first] == ["__init__.py", "losses.py"] and len(code) <= 25


def test_every_command_has_its_help_on_the_page():
    listed = re.findall(r"^```\{genkit-help\} (.+)$", (DOCS / "cli.md").read_text(), re.MULTILINE)
    there = set()
    for name, target in {**dispatch.COMMANDS, **dispatch._plugin_commands()}.items():
        if " " in name:  # of a group, which has it
            continue
        command = typer.main.get_command(dispatch.app({name: target})).commands[name]
        there |= {f"{name} {sub}" for sub in command.commands} if hasattr(command, "commands") else {name}
    assert sorted(listed) == sorted(there)


def test_the_exit_codes_of_the_tour_are_those_of_the_code():
    text = (DOCS / "tour.md").read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    sources = "".join(
        path.read_text() for path in [*ROOT.glob("genkit/**/*.py"), *ROOT.glob("plugins/*/genkit_*/*.py")]
    )
    raised = {e.exit_code for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.GenkitError)}
    raised |= {int(code) for code in re.findall(r"(?:Exit|SystemExit)\((\d+)\)", sources)}
    assert listed == raised | {0, 75, 130}


def test_the_environment_variables_of_the_page_are_those_of_the_code():
    listed = set(re.findall(r"^\| `(GENKIT_\w+)` \|", (DOCS / "cli.md").read_text(), re.MULTILINE))
    sources = "".join(
        path.read_text() for path in [*ROOT.glob("genkit/**/*.py"), *ROOT.glob("plugins/*/genkit_*/**/*.py")]
    )
    silent = {"GENKIT_API", "GENKIT_TOLD"}  # a plugin's attribute; what one process tells those that it starts
    assert listed == set(re.findall(r"\"(GENKIT_\w+)\"", sources)) - silent


@each_page
def test_generated_tables_are_of_classes_that_are_there(page):
    for target in re.findall(r"^```\{genkit-fields\} (.+)$", page.read_text(), re.MULTILINE):
        module, _, name = target.partition(":")
        assert hasattr(importlib.import_module(module), name), target


@each_page
def test_a_page_names_no_package_that_is_not_ours(page):
    assert not re.search(r"pip install[^\n]*\bgenkit(?!-lab)\b", page.read_text())


def test_no_block_is_of_a_language_that_no_test_looks_at():
    for page in PAGES:
        found = {block.language for block in blocks(page)}
        assert found <= {"python", "toml", "console", "bash", "text"}, page
        assert len(re.findall(r"^```", page.read_text(), re.MULTILINE)) % 2 == 0, page


def test_the_fences_are_read_as_they_are_written(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\na = 1\n```\n\n```{code-block} python\n:caption: '`x/y.py`'\n\nb = 2\n```\n")
    runs, shown = blocks(page)
    assert (runs.runs, runs.file, runs.text) == (True, "", "a = 1\n")
    assert (shown.runs, shown.file, shown.text) == (False, "x/y.py", "b = 2\n")
    assert ast.parse(shown.text)
