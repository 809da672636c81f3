"""Directives that make tables and help texts from the code, so that no page repeats it by hand."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import attrs
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import genkit
from genkit.kernel import registry
from genkit.kinds import KINDS
from genkit.kinds import fields as fields_of

CODE = re.compile(r"`([^`]+)`")


def table(rows: list[list[str]], widths: list[int]) -> nodes.table:
    """A header and rows; `text` between backticks is code."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in widths), cols=len(widths))
    head, *rest = [
        nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *inline(cell))) for cell in row)) for row in rows
    ]
    group += nodes.thead("", head)
    group += nodes.tbody("", *rest)
    return nodes.table("", group, classes=["colwidths-given"])


def inline(text: str) -> list[nodes.Node]:
    parts = CODE.split(text)
    return [nodes.literal("", part) if i % 2 else nodes.Text(part) for i, part in enumerate(parts) if part]


def find(target: str) -> Any:
    """`package.module:name`."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


class Fields(SphinxDirective):
    """```{genkit-fields} package.module:Class```: the keys of a table of a recipe, from the fields of its class."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return [settings(find(self.arguments[0]))]


def settings(cls: type) -> nodes.table:
    """A row for each field of a class."""
    said = attributes(cls)
    rows = [["key", "type", "default", "what", "in the id"]]
    for name, field in fields_of(cls):
        meta = field.metadata
        kind = f"slot: `{meta['slot']}`" if "slot" in meta else f"`{field.type}`"
        text = meta.get("help") or said.get(name, "")
        if "slot" not in meta and not text:  # a table of its own
            continue
        rows.append([f"`{name}`", kind, default(field), text, "yes" if meta.get("identity", True) else "no"])
    return table(rows, [20, 18, 16, 38, 8])


def attributes(cls: type) -> dict[str, str]:
    """What a docstring's section `Attributes:` says of each field."""
    section = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    return dict(re.findall(r"^ {4}(\w+): (.+)$", section, re.MULTILINE))


def default(field: attrs.Attribute[Any]) -> str:
    value = field.metadata["use"] if "slot" in field.metadata else field.default
    if value is attrs.NOTHING or (value is None and "slot" in field.metadata):
        return "must be given"
    if value is None:
        return "not given"
    shown = list(value) if isinstance(value, tuple) else value
    words = {True: "true", False: "false"}
    return f"`{words[shown] if isinstance(shown, bool) else shown}`" if shown != "" else "not given"


class Kinds(SphinxDirective):
    """```{genkit-kinds}```: the table of kinds."""

    def run(self) -> list[nodes.Node]:
        rows = [["kind", "what it is", "its class", "the working thing"]]
        for name, kind in KINDS.items():
            contract = "a callable" if not inspect.isclass(kind.contract) else f"`{kind.contract.__name__}`"
            has = ("`build(setup)`" if name == "dataset" else "`build(context)`") if kind.builds else "is the thing"
            rows.append([f"`{name}`", kind.summary, has, contract])
        return [table(rows, [16, 44, 20, 20])]


class Components(SphinxDirective):
    """```{genkit-components}```: the components of the bundled plugins."""

    def run(self) -> list[nodes.Node]:
        rows = [["kind", "name", "what", "from"]]
        for (kind, name), info in registry.components().items():
            if info.distribution.startswith("genkit-lab-"):
                rows.append([f"`{kind}`", f"`{name}`", info.summary, f"`{info.distribution}`"])
        return [table(rows, [16, 18, 42, 24])]


class Public(SphinxDirective):
    """```{genkit-public}```: what plugins may import of each room."""

    def run(self) -> list[nodes.Node]:
        rooms = tomllib.loads((Path(__file__).parent / "rooms.toml").read_text())
        rows = [["room", "modules and names"]]
        for room, said in rooms.items():
            if "public" in said and room != "testing":
                rows.append([f"`genkit.{room}`", " ".join(f"`{name}`" for name in said["public"].split())])
        return [table(rows, [20, 80])]


class Names(SphinxDirective):
    """```{genkit-names}```: the names of `genkit`, with the first line of each."""

    def run(self) -> list[nodes.Node]:
        rows = [["name", "what it is"]]
        for name in sorted(set(genkit.__all__) - {"__version__"}):
            text = inspect.getdoc(getattr(genkit, name)) or ""
            rows.append([f"`genkit.{name}`", text.splitlines()[0] if text else ""])
        return [table(rows, [25, 75])]


class Recipes(SphinxDirective):
    """```{genkit-recipes}```: the recipes of the core, with the first line of each."""

    def run(self) -> list[nodes.Node]:
        from genkit.kernel.loading import installed

        rows = [["recipe", "what"]]
        for name, (distribution, file) in installed().items():
            if "/" not in name and distribution == "genkit-lab":
                rows.append([f"`{name}`", file.read_text().splitlines()[0].lstrip("# ")])
        return [table(rows, [25, 75])]


class Help(SphinxDirective):
    """```{genkit-help} run```: what `genkit run --help` prints."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        return [nodes.literal_block(text := help_text(*(self.arguments or [""])[0].split()), text, language="text")]


@functools.cache
def help_text(*command: str) -> str:
    env = {**os.environ, "COLUMNS": "90", "NO_COLOR": "1"}
    argv = [sys.executable, "-m", "genkit", *command, "--help"]
    return subprocess.run(argv, capture_output=True, text=True, env=env, check=True).stdout.strip()


def setup(app: Any) -> dict[str, Any]:
    for name, directive in (
        ("genkit-fields", Fields),
        ("genkit-kinds", Kinds),
        ("genkit-components", Components),
        ("genkit-recipes", Recipes),
        ("genkit-public", Public),
        ("genkit-names", Names),
        ("genkit-help", Help),
    ):
        app.add_directive(name, directive)
    return {"parallel_read_safe": True}
