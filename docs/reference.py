"""Makes the reference from the code: a page for each kind with its components, and one for each room of the core."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from generated import CODE, inline, settings
from sphinx.util.docutils import SphinxDirective

from genkit.kernel import registry
from genkit.kinds import KINDS
from genkit.kinds import fields as fields_of

HEADS = ("Args", "Attributes", "Returns", "Yields", "Raises")
ROOMS = tomllib.loads((Path(__file__).parent / "rooms.toml").read_text())
ITEM = re.compile(r"(?m)^(?=\S)")


def read(docstring: str) -> list[nodes.Node]:
    """A docstring: paragraphs, formulas as they stand, and lists of arguments, of errors and of what is returned."""
    found: list[nodes.Node] = []
    for part in inspect.cleandoc(docstring).split("\n\n"):
        head, _, rest = part.partition(":\n")
        if head in HEADS:
            found += [nodes.rubric("", head), listed(textwrap.dedent(rest))]
        elif part.startswith(" "):
            found.append(nodes.literal_block("", textwrap.dedent(part), language="text"))
        elif part.strip():
            found.append(paragraph(part))
    return found


def paragraph(text: str) -> nodes.paragraph:
    """Running text, in which what stands between backticks is code."""
    return nodes.paragraph("", "", *inline(" ".join(text.split())))


def listed(text: str) -> nodes.bullet_list:
    """Items such as `x, y: Batches (B, *).`, each with its name as code."""
    items = []
    for item in filter(str.strip, ITEM.split(text)):
        name, colon, said = item.partition(":")
        plain = not colon or " " in name.replace(", ", "") or CODE.search(name)
        items.append(nodes.list_item("", paragraph(item if plain else f"`{name}`: {said}")))
    return nodes.bullet_list("", *items)


def section(name: str, title: nodes.Node, *content: nodes.Node) -> nodes.section:
    """A part of a page, which links can name."""
    return nodes.section("", nodes.title("", "", title), *content, ids=[nodes.make_id(name)], names=[name.lower()])


class Kind(SphinxDirective):
    """```{genkit-kind} loss```: the components of a kind: what each is, and its settings."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        there = [info for (kind, _), info in registry.components().items() if kind == self.arguments[0]]
        bundled = [told(info) for info in there if info.distribution.startswith("genkit-lab-")]
        return bundled or [paragraph("None comes with genkit.")]


def told(info: registry.ComponentInfo) -> nodes.section:
    """A component: what its class says, its settings, and where it comes from."""
    cls = registry.load(info)
    rows = [settings(cls)] if any(True for _ in fields_of(cls)) else []
    origin = nodes.paragraph("", "", *inline(f"`{info.distribution}`"), classes=["origin"])
    said = read(inspect.getdoc(cls) or info.summary)
    return section(f"{info.kind}-{info.name}", nodes.literal("", info.name), *said, *rows, origin)


class Room(SphinxDirective):
    """```{genkit-room} data```: what plugins may use of a room, with its docstrings."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return [
            section(f"{module.__name__}-part", nodes.literal("", module.__name__), *self.of(module))
            for module in modules(self.arguments[0])
        ]

    def of(self, module: Any) -> Iterator[nodes.Node]:
        yield from read(module.__doc__ or "")
        for name, thing in vars(module).items():
            if not name.startswith("_") and getattr(thing, "__module__", "") == module.__name__ and callable(thing):
                yield section(f"{module.__name__}.{name}", nodes.literal("", name), *self.entry(name, thing))

    def entry(self, name: str, thing: Any) -> Iterator[nodes.Node]:
        yield nodes.literal_block("", signature(name, thing), language="python")
        yield from read(inspect.getdoc(thing) or "")
        for method, what in vars(thing).items() if inspect.isclass(thing) else ():
            function = getattr(what, "__func__", getattr(what, "fget", what))
            if not method.startswith("_") and inspect.isfunction(function) and function.__doc__:
                title = f".{method}" if isinstance(what, property) else signature(f".{method}", function)
                body = nodes.definition("", *read(function.__doc__))
                term = nodes.term("", "", nodes.literal("", title))
                yield nodes.definition_list("", nodes.definition_list_item("", term, body))


def modules(room: str) -> list[Any]:
    """The modules of a room that plugins may import."""
    if room == "top":
        return [importlib.import_module(f"genkit.{name}") for name in ROOMS[room]["modules"].split()]
    names = [name for name in ROOMS[room]["public"].split() if name in ROOMS[room]["modules"].split()]
    return [importlib.import_module(f"genkit.{room}.{name}") for name in names]


def signature(name: str, thing: Any) -> str:
    """`name(a, b) -> C`, without quotes and module names; the name alone where there is none."""
    try:
        said = str(inspect.signature(thing))
    except (TypeError, ValueError):
        return name
    said = re.sub(r"ForwardRef\('([^']*)'\)", r"\1", said)
    said = re.sub(r"<function <lambda> at \w+>|<factory>", "...", said.replace("'", "").replace("(self, ", "("))
    return name + said.replace("(self)", "()").removesuffix(" -> None")


@functools.cache
def pages() -> dict[str, str]:
    """The text of each page of the reference, by its name."""
    kinds = {
        f"kind-{kind}": f"# {kind}\n\n{about.summary} [How to write one](../hooks.md#genkit_{kind}).\n\n"
        f"```{{genkit-kind}} {kind}\n```\n"
        for kind, about in KINDS.items()
    }
    rooms = {
        f"room-{room}": f"# genkit{'' if room == 'top' else '.' + room}\n\n```{{genkit-room}} {room}\n```\n"
        for room in ROOMS
        if modules(room)
    }
    return kinds | rooms


def write(app: Any) -> None:
    """The pages, where they are not there or have changed; Sphinx then leaves the others alone."""
    folder = Path(app.srcdir) / "reference"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.md"):
        if old.stem not in pages():
            old.unlink()
    for name, text in pages().items():
        page = folder / f"{name}.md"
        if not page.exists() or page.read_text() != text:
            page.write_text(text)


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("genkit-kind", Kind)
    app.add_directive("genkit-room", Room)
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
