"""Curves for a report: pure functions from numbers to HTML with inline SVG, without scripts; looks in report.css.

The SVG holds lines only and stretches to the width there is; labels and hover read-outs are HTML placed in
per cent, so that type keeps its size on a telephone and on a wall. A value of `None` is a gap.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from genkit.evaluation.results import tidy

Points = list[tuple[int, float | None]]
MOST_POINTS = 600
MOST_HITS = 60


class Series(NamedTuple):
    """One line of a chart; `look` is its class in report.css: raw, main, floor, or c0 to c5."""

    label: str
    points: Points
    look: str = "main"


class Axis(NamedTuple):
    """A range of values, straight or logarithmic, and where on it a value stands (0 to 1)."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def of(cls, values: Iterable[float], log: bool = False) -> Axis:
        """The axis that shows all values with a little air; logarithmic only if all are positive (and no extremes)."""
        values = list(values) or [0.0, 1.0]
        low, high = min(values), max(values)
        if log and low > 1e-99 and high < 1e99:
            air = max((high / low) ** 0.06, 1.05)
            return cls(low / air, high * air, True)
        air = max((high - low) * 0.06, abs(high) * 1e-3, abs(low) * 1e-3) or 1.0
        return cls(0.0 if 0 <= low <= (high - low) * 0.3 else low - air, high + air)

    def at(self, value: float) -> float:
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / ((self.high - self.low) or 1.0)

    def ticks(self, most: int = 5) -> list[float]:
        """A few round values on the axis."""
        if not self.log:
            return _round_ticks(self.low, self.high, most)
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        fine = [m * 10.0**e for e in exponents for m in (1, 2, 5) if self.low <= m * 10.0**e <= self.high]
        if len(fine) <= most + 1:
            return fine if len(fine) > 1 else _round_ticks(self.low, self.high, most)
        decades = [10.0**e for e in exponents if self.low <= 10.0**e <= self.high]
        return decades[:: math.ceil(len(decades) / most)]


def _round_ticks(low: float, high: float, most: int) -> list[float]:
    rough = (high - low) / most or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 5) if m * power >= rough * 0.999), 10 * power)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number for a tick: 0.02, 400, 2.5k, 1M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size <= abs(value) < 1e12:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


def running_median(points: Points) -> Points:
    """The median of the finite values around each point; a gap stays a gap."""
    reach = min(max(len(points) // 40, 2), 50)
    result: Points = []
    for i, (k, value) in enumerate(points):
        window = [v for _, v in points[max(i - reach, 0) : i + reach + 1] if v is not None]
        result.append((k, None if value is None else statistics.median(window)))
    return result


def thinned(points: Points, most: int = MOST_POINTS) -> Points:
    """At most `most` points: the lowest and the highest of each bucket, so spikes stay, and a gap if it has one."""
    if len(points) <= most:
        return points
    buckets, result = most // 3, []
    for b in range(buckets):
        part = points[b * len(points) // buckets : (b + 1) * len(points) // buckets]
        solid = [p for p in part if p[1] is not None]
        ordered = sorted(solid, key=lambda p: p[1] or 0.0)
        kept = {ordered[0], ordered[-1]} if ordered else set()
        gap = next((p for p in part if p[1] is None), None)
        result += sorted(kept | ({gap} if gap else set()), key=lambda p: p[0])
    return result


def _corners(points: Points) -> Points:
    """The points of a stair where it changes, and its last."""
    kept = [p for i, p in enumerate(points) if i == 0 or p[1] != points[i - 1][1]]
    return kept + points[-1:] if points and kept[-1] != points[-1] else kept


def _path(points: Points, x: Axis, y: Axis, stairs: bool) -> str:
    """SVG path data in a box of 1000 by 1000; a lone point is a stroke of no length, which round caps show."""
    data, drawing = [], False
    for k, value in _corners(points) if stairs else thinned(points):
        if value is None or (y.log and value <= 0):
            drawing = False
            continue
        across, down = f"{1000 * x.at(k):.5g}", f"{1000 * (1 - y.at(value)):.5g}"
        if drawing:
            data.append(f"H{across}V{down}" if stairs else f"L{across} {down}")
        else:
            data.append(f"M{across} {down}h0")
        drawing = True
    return "".join(data)


def _hits(series: Sequence[Series], x: Axis, y: Axis) -> str:
    """Columns that show, when pointed at, the values there."""
    lead = series[-1].points
    picks = lead[:: math.ceil(len(lead) / MOST_HITS)]
    lookup = [(s.label, dict(s.points)) for s in series]
    places = [100 * x.at(k) for k, _ in picks]
    html = []
    for i, (k, value) in enumerate(picks):
        left = (places[i - 1] + places[i]) / 2 if i else 0
        right = (places[i] + places[i + 1]) / 2 if i + 1 < len(picks) else 100
        centre = 100 * (places[i] - left) / ((right - left) or 1)
        lines = "".join(f"<span>{escape(label)} {tidy(values[k])}</span>" for label, values in lookup if k in values)
        top = f"--y:{100 * (1 - y.at(value)):.4g}%" if value is not None else "--y:-99%"
        side = " class=r" if places[i] > 55 else ""
        html.append(
            f'<i{side} style="left:{left:.4g}%;width:{right - left:.4g}%;--x:{centre:.4g}%;{top}">'
            f"<b>step {k}{lines}</b></i>"
        )
    return "".join(html)


def _labels(x: Axis, y: Axis) -> str:
    across = "".join(f'<span class=x style="left:{100 * x.at(v):.4g}%">{short(v)}</span>' for v in x.ticks())
    up = "".join(f'<span class=y style="top:{100 * (1 - y.at(v)):.4g}%">{short(v)}</span>' for v in y.ticks(4))
    return f"<div aria-hidden=true>{across}{up}</div>"


def _lines(series: Sequence[Series], x: Axis, y: Axis, stairs: bool, dots: bool, marks: Sequence[int]) -> str:
    rules = "".join(f"M0 {1000 * (1 - y.at(v)):.5g}H1000" for v in y.ticks(4))
    parts = [f'<path class=grid d="{rules}"/>']
    parts += [f'<path class=mark d="M{1000 * x.at(k):.5g} 0V1000"/>' for k in marks if x.low <= k <= x.high]
    for one in series:
        parts.append(f'<path class="{one.look}" d="{_path(one.points, x, y, stairs)}"/>')
        if dots:
            spots = [p for point in thinned(one.points) for p in (point, (point[0], None))]
            parts.append(f'<path class="{one.look} dots" d="{_path(spots, x, y, False)}"/>')
    return "".join(parts)


def _heading(title: str, note: str, series: Sequence[Series], values: list[float]) -> tuple[str, str]:
    """The caption of a chart, and what it says to who cannot see it."""
    last = next((v for _, v in reversed(series[-1].points) if v is not None), None)
    keys = "".join(f'<span><s class="{s.look}"></s>{escape(s.label)}</span>' for s in series if len(series) > 1)
    caption = f"<b>{escape(title)}</b><span class=note>{escape(note)}</span><span class=keys>{keys}</span>"
    said = f"{title} against step"
    if values:
        said += f": last {tidy(last)}, lowest {tidy(min(values))}, highest {tidy(max(values))}"
    return caption + f"<output>{tidy(last)}</output>", said


def chart(
    title: str,
    series: Sequence[Series],
    *,
    log: bool = False,
    stairs: bool = False,
    dots: bool = False,
    marks: Sequence[int] = (),
    note: str = "",
) -> str:
    """A figure with the lines of `series` over the step k; empty if there is no point at all.

    Args:
        series: Drawn in order; the last leads: its last value stands in the caption.
        log: A logarithmic axis, where all values are positive.
        stairs: Values hold until the next one.
        dots: Points are marked.
        marks: Steps at which a run was resumed: dashed uprights.
    """
    series = [s for s in series if s.points]
    if not series:
        return ""
    values = [v for s in series for _, v in s.points if v is not None]
    steps = [k for s in series for k, _ in s.points]
    x, y = Axis(min(0, *steps), max(1, *steps)), Axis.of(values, log)
    caption, said = _heading(title, note or ("log scale" if y.log else ""), series, values)
    lines = _lines(series, x, y, stairs, dots, marks)
    return (
        f"<figure class=chart><figcaption>{caption}</figcaption><div class=plot>"
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role=img aria-label="{escape(said)}">{lines}</svg>'
        f"{_labels(x, y)}<div class=hits aria-hidden=true>{_hits(series, x, y)}</div></div></figure>"
    )
