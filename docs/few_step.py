"""Draws `images/few-step.svg`, what each kind of model learns of one path: `python docs/few_step.py`."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

WIDE, HIGH, GAP, HEAD = 316, 214, 18, 44  # a panel, the room between two, and that of its words
ROWS = 2.5  # x from -ROWS to ROWS
SIDE, START = 1.8, 1.1  # where data are, on both sides, and where the path begins
T, S = 0.94, 0.16  # where the arrows start and, for jumps between two times, end
STYLE = """
text{font:13px system-ui,sans-serif;fill:#1c2330}
.said{font-size:11.5px;fill:#5b6472}.sign{font-style:italic}
.frame{fill:#f4f6f9;stroke:#c6ced9}
path{fill:none}.others{stroke:#c2cad6}.way{stroke:#5b6472;stroke-width:1.6}
.arrow{stroke:#3d6fb4;stroke-width:2.6}marker path,.dot{fill:#3d6fb4;stroke:none}
.at{stroke:#9aa4b2;stroke-dasharray:2 3}
@media(prefers-color-scheme:dark){
text{fill:#e6e9ef}.said{fill:#9aa4b2}.frame{fill:#1c222c;stroke:#3a4350}
.others{stroke:#3a4350}.way{stroke:#9aa4b2}.arrow{stroke:#7aa6e6}marker path,.dot{fill:#7aa6e6}.at{stroke:#5b6472}}
"""
TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="6.5" refY="4" markerWidth="9" markerHeight="9" '
    'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
)


def velocity(x: float, t: float) -> float:
    """dx/dt = (x - E[x0 | x]) / t for x_t = (1 - t) x0 + t eps, x0 half around SIDE and half around -SIDE, 0.1 wide."""
    var = ((1 - t) * 0.1) ** 2 + t * t
    means = {side: side * (1 - t) for side in (-SIDE, SIDE)}
    least = min((x - m) ** 2 for m in means.values())
    chances = {side: math.exp((least - (x - m) ** 2) / (2 * var)) for side, m in means.items()}
    clean = {side: side + (1 - t) * 0.01 / var * (x - m) for side, m in means.items()}
    mean = sum(chances[side] * clean[side] for side in means) / sum(chances.values())
    return (x - mean) / t


def way(x: float, steps: int = 240) -> list[tuple[float, float]]:
    """The path (t, x) of the ODE from x at t = 1 to t = 0, by midpoint steps."""
    found = [(1.0, x)]
    for i in range(steps):
        t, h = 1 - i / steps, 1 / steps
        x -= h * velocity(x - h / 2 * velocity(x, t), t - h / 2)
        found.append((t - h, x))
    return found


def at(path: list[tuple[float, float]], t: float) -> tuple[float, float]:
    return min(path, key=lambda point: abs(point[0] - t))


def placed(t: float, x: float) -> str:
    """Noise is on the left, data are on the right."""
    return f"{14 + (1 - t) * (WIDE - 28):.1f} {HEAD + (ROWS - x) / (2 * ROWS) * (HIGH - HEAD - 8):.1f}"


def line(points: list[tuple[float, float]], look: str) -> str:
    return f'<path class="{look}" d="M{"L".join(placed(*point) for point in points)}"/>'


def panel(i: int, title: str, said: str, arrow: str, times: dict[str, float]) -> str:
    others = [line(way(x)[::6], "others") for x in (-2.2, -1.7, -1.1, -0.6, -0.25, 0.1, 0.5, 1.7, 2.2)]
    marks = []
    for name, t in times.items():
        x, bottom = placed(t, 0).split()[0], HIGH - 6
        marks.append(f'<path class="at" d="M{x} {HEAD}V{bottom}"/>')
        marks.append(f'<text class="said sign" x="{float(x) + 4:.1f}" y="{bottom - 3}">{name}</text>')
    dot = placed(*at(way(START), T)).split()
    words = (
        f'<text x="14" y="20" font-weight="600">{escape(title)}</text>'
        f'<text class="said" x="14" y="37">{escape(said)}</text>'
    )
    x, y = (i % 2) * (WIDE + GAP) + 1, (i // 2) * (HIGH + GAP) + 1
    return (
        f'<g transform="translate({x} {y})"><rect class="frame" width="{WIDE}" height="{HIGH}" rx="8"/>{words}'
        + "".join([*others, line(way(START), "way"), *marks, arrow])
        + f'<circle class="dot" cx="{dot[0]}" cy="{dot[1]}" r="4"/></g>'
    )


def arrow(shape: str) -> str:
    return f'<path class="arrow" d="{shape}" marker-end="url(#tip)"/>'


def jump(start: tuple[float, float], end: tuple[float, float], lift: float) -> str:
    """From point to point, beside the path."""
    (t, x), (s, y) = start, end
    return arrow(f"M{placed(*start)}Q{placed((t + s) / 2, (x + y) / 2 + lift)} {placed(*end)}")


def drawn() -> str:
    """The whole picture."""
    path = way(START)
    start, middle, end = at(path, T), at(path, S), path[-1]
    slope, reach = velocity(start[1], start[0]), 0.3
    tangent = arrow(f"M{placed(*start)}L{placed(start[0] - reach, start[1] - reach * slope)}")
    chord = arrow(f"M{placed(*start)}L{placed(*middle)}")
    panels = [
        panel(0, "Diffusion: where to go now", "v(x_t, t), the path's slope; D follows from it", tangent, {"t": T}),
        panel(1, "Consistency: where it ends", "f(x_t, t) = x_0", jump(start, end, 0.9), {"t": T}),
        panel(2, "Flow map: where it is at s", "G(x_t, t, s) = x_s", jump(start, middle, 0.7), {"t": T, "s": S}),
        panel(
            3,
            "Average velocity: the slope of the way to s",
            "u(x_t, t, s), G = x_t − (t − s) u",
            chord,
            {"t": T, "s": S},
        ),
    ]
    width, height = 2 * WIDE + GAP + 2, 2 * HIGH + GAP + 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Four copies of one path from noise to data, each with the arrow that a kind of model learns">'
        f"<style>{STYLE}</style>{TIP}" + "\n".join(panels) + "</svg>\n"
    )


if __name__ == "__main__":
    (Path(__file__).parent / "images" / "few-step.svg").write_text(drawn())
