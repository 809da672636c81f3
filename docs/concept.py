"""Draws `images/concept.svg`, the way from a recipe to figures: `python docs/concept.py`."""

from __future__ import annotations

from html import escape
from pathlib import Path

WIDE, HIGH, GAP = 138, 92, 24  # a box, and the room between two
BOXES = [
    ("recipe", "a short TOML file", "genkit run ict_digits"),
    ("components", "what its words name,", "each from a plugin"),
    ("program", "student, teacher,", "loss of a batch"),
    ("checkpoints", "resumed bit for bit", "after any kill"),
    ("figures", "samples, distances,", "an offline page"),
]
STYLE = """
text{font:600 14px system-ui,sans-serif;fill:#1c2330}.said{font:11.5px system-ui,sans-serif;fill:#5b6472}
rect{fill:#f4f6f9;stroke:#c6ced9}path{fill:none;stroke:#3d6fb4;stroke-width:2}marker path{fill:#3d6fb4;stroke:none}
.swap{stroke-dasharray:4 4}
@media(prefers-color-scheme:dark){
text{fill:#e6e9ef}.said{fill:#9aa4b2}rect{fill:#1c222c;stroke:#3a4350}path{stroke:#7aa6e6}marker path{fill:#7aa6e6}}
"""
TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
    'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
)


def box(i: int, name: str, *said: str) -> str:
    """A box with its name and two lines of text, and the arrow that leads to it."""
    x = i * (WIDE + GAP) + 1
    words = "".join(
        f'<text class="said" x="{x + WIDE / 2}" y="{54 + 17 * j}" text-anchor="middle">{escape(line)}</text>'
        for j, line in enumerate(said)
    )
    arrow = f'<path d="M{x - GAP} {1 + HIGH / 2}H{x}" marker-end="url(#tip)"/>' if i else ""
    name = f'<text x="{x + WIDE / 2}" y="30" text-anchor="middle">{escape(name)}</text>'
    return f'<rect x="{x}" y="1" width="{WIDE}" height="{HIGH}" rx="8"/>{arrow}{name}{words}'


def swaps() -> str:
    """The way back: one word changed is another arm, and a study compares their figures."""
    first, last = 1 + WIDE / 2, 4 * (WIDE + GAP) + 1 + WIDE / 2
    line = f"M{last} {HIGH + 2}V{HIGH + 26}H{first}V{HIGH + 4}"
    text = "genkit ablate --swap loss=l2: another word, more seeds, one table with intervals"
    middle = f'x="{(first + last) / 2}" y="{HIGH + 46}" text-anchor="middle"'
    return f'<path class="swap" d="{line}" marker-end="url(#tip)"/><text class="said" {middle}>{escape(text)}</text>'


def drawn() -> str:
    wide, high = 5 * WIDE + 4 * GAP + 2, HIGH + 54
    label = "From a recipe over components, a program and checkpoints to figures; a swap begins it again"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" role="img" aria-label="{label}">'
    boxes = "\n".join(box(i, *words) for i, words in enumerate(BOXES))
    return f"{head}<style>{STYLE}</style>{TIP}\n{boxes}\n{swaps()}</svg>\n"


if __name__ == "__main__":
    Path(__file__).with_name("images").joinpath("concept.svg").write_text(drawn())
