"""Draws `images/architecture.svg` from the imports of genkit/: `python docs/architecture.py`."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOP = "what plugins speak: the contract, and the words of the mathematics"
WIDE, HIGH, GAP, LEFT, ARCS = 600, 64, 14, 12, 190
STYLE = """
text{font:14px system-ui,sans-serif;fill:#1c2330}
.said{font-size:12px;fill:#5b6472}
.modules{font:11.5px ui-monospace,monospace;fill:#39424f}
rect{fill:#f4f6f9;stroke:#c6ced9}
.top rect{fill:#e8f1ea;stroke:#a9cbb2}
path{fill:none;stroke:#3d6fb4}
marker path{fill:#3d6fb4;stroke:none}
@media(prefers-color-scheme:dark){
text{fill:#e6e9ef}.said{fill:#9aa4b2}.modules{fill:#b9c2cf}
rect{fill:#1c222c;stroke:#3a4350}.top rect{fill:#1b2a20;stroke:#3c5a45}
path{stroke:#7aa6e6}marker path{fill:#7aa6e6}}
"""
HEAD = (
    '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
    'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
)


def rooms() -> dict[str, str]:
    """The rooms in their order, with their modules."""
    said = tomllib.loads((ROOT / "docs" / "rooms.toml").read_text())
    return {room: told["modules"] for room, told in said.items()}


def uses(room: str, known: dict[str, str]) -> Counter[str]:
    """How many modules of a room import each other room, lazily or not."""
    folder, tops = ROOT / "genkit" / ("" if room == "top" else room), known["top"].split()
    files = [folder / f"{name}.py" for name in known[room].split()]
    found: Counter[str] = Counter()
    for file in files:
        modules = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "genkit":
                parts = [*(node.module or "").split(".")[1:], *(alias.name for alias in node.names)]
                modules.add("top" if parts[0] in tops else parts[0] if parts[0] in known else room)
        found.update(modules - {room})
    return found


def purpose(room: str) -> str:
    """The first line of a room's docstring, without its title."""
    if room == "top":
        return TOP
    text = ast.get_docstring(ast.parse((ROOT / "genkit" / room / "__init__.py").read_text())) or ""
    return text.splitlines()[0].partition(": ")[2].rstrip(".")


def box(i: int, room: str, modules: str) -> str:
    y = LEFT + i * (HIGH + GAP)
    title = "genkit/" if room == "top" else f"genkit/{room}/"
    look = ' class="top"' if room == "top" else ""
    return (
        f'<g{look}><rect x="{LEFT}" y="{y}" width="{WIDE}" height="{HIGH}" rx="8"/>'
        f'<text x="{LEFT + 14}" y="{y + 22}" font-weight="600">{title}</text>'
        f'<text class="said" x="{LEFT + 150}" y="{y + 22}">{escape(purpose(room))}</text>'
        f'<text class="modules" x="{LEFT + 14}" y="{y + 46}">{escape(modules.replace(" ", "  "))}</text></g>'
    )


def arc(i: int, j: int, count: int) -> str:
    """From room i to room j above it, whose modules i's import."""
    right, start, end = (
        LEFT + WIDE,
        LEFT + i * (HIGH + GAP) + 14 + 4 * j,
        LEFT + j * (HIGH + GAP) + HIGH - 8 - 5 * (i - j),
    )
    out = right + 22 + (ARCS - 40) * (i - j) / 7
    return (
        f'<path d="M{right} {start}C{out:.0f} {start} {out:.0f} {end} {right + 3} {end}" '
        f'stroke-width="{0.7 + 0.28 * count:.2f}" opacity=".55" marker-end="url(#head)"/>'
    )


def drawn() -> str:
    """The whole picture."""
    known = rooms()
    order = list(known)
    boxes = [box(i, room, modules) for i, (room, modules) in enumerate(known.items())]
    arcs = [
        arc(order.index(room), order.index(other), n)
        for room in order
        for other, n in sorted(uses(room, known).items())
    ]
    width, height = LEFT + WIDE + ARCS, 2 * LEFT + len(order) * (HIGH + GAP) - GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Rooms of genkit, each importing only rooms above it"><style>{STYLE}</style>{HEAD}'
        + "\n".join([*boxes, *arcs])
        + "</svg>\n"
    )


if __name__ == "__main__":
    (ROOT / "docs" / "images" / "architecture.svg").write_text(drawn())
