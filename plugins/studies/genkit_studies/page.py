"""A study on one page: `report.html`, with what it says, its table, effects, curves, samples and costs; offline."""

from __future__ import annotations

from html import escape
from math import log
from pathlib import Path

from genkit.data import atomic
from genkit.evaluation.results import finite
from genkit_reports import html
from genkit_reports.charts import Series, chart, running_median
from genkit_reports.history import read
from genkit_studies import comparison, table
from genkit_studies.comparison import Row
from genkit_studies.statistics import Effect
from genkit_studies.study import Arm, Study, Trial

SHOWN = 12  # arms that have curves and samples: more can neither be told apart nor sent
STYLE = """
.effects{display:grid;grid-template-columns:minmax(7rem,auto) 1fr auto;gap:.55rem 1rem;align-items:center}
.effects .lane{position:relative;height:1.3rem;border-bottom:1px solid var(--line)}
.effects .zero{position:absolute;top:-.3rem;bottom:-.3rem;border-left:1px dashed var(--soft)}
.effects .span{position:absolute;top:calc(50% - 1px);height:2px;background:var(--c0)}
.effects .range{background:none;border-top:2px dashed var(--c0)}
.effects .dot{position:absolute;top:calc(50% - 5px);width:10px;height:10px;margin-left:-5px;border-radius:50%;
background:var(--c0)}.effects .noise{opacity:.45}.effects code{color:var(--ink)}
@media(min-width:36.01rem){.wide td{white-space:nowrap}}section .note{margin-bottom:1rem}
@media(max-width:640px){.effects{grid-template-columns:1fr auto}.effects>span{grid-column:1/-1;margin-bottom:-.5rem}}
.said{font-size:1.05rem;margin-top:.4rem;color:var(--ink)}th[data-sort]{cursor:pointer}
"""
SCRIPT = """
for (const th of document.querySelectorAll("thead th")) {
  th.dataset.sort = ""; th.tabIndex = 0;
  const sort = () => {
    const body = th.closest("table").tBodies[0], at = th.cellIndex, down = th.dataset.sort === "up";
    const key = row => { const n = parseFloat(row.cells[at].textContent); return isNaN(n) ? Infinity : n; };
    const rows = [...body.rows].sort((a, b) => key(a) - key(b) ||
      a.cells[at].textContent.localeCompare(b.cells[at].textContent));
    body.append(...(down ? rows.reverse() : rows)); th.dataset.sort = down ? "down" : "up";
  };
  th.onclick = sort; th.onkeydown = e => { if (e.key === "Enter") sort(); };
}
"""


def page(of: Study, rows: list[Row]) -> str:
    """The whole page as HTML; every text of the study is escaped."""
    parts = [
        _header(of, rows),
        _figures(of, rows),
        _effects(of, rows),
        _curves(of, drawn := _shown(of, rows)),
        *_samples(of, drawn),
        _arms(of, rows),
    ]
    return html.document(f"{of.name} – genkit study", "".join(parts), STYLE, SCRIPT)


def write(of: Study, rows: list[Row]) -> Path:
    """Write `report.html` into the study's folder."""
    target = of.folder / "report.html"
    atomic.write(target, page(of, rows))
    return target


def _header(of: Study, rows: list[Row]) -> str:
    said = "".join(f"<p class=said>{escape(text)}</p>" for text in comparison.sentences(of, rows))
    seconds = sum(row.seconds for row in rows)
    chips = {
        "design": of.design,
        "arms": len(of.arms),
        "seed" + "s" * (len(of.seeds) > 1): ", ".join(map(str, of.seeds)),
        "trials": len(of.trials),
        "device hours": f"{seconds / 3600:.2g}",
        "id": of.id,
    }
    listed = "".join(f"<li><span>{name}</span>{escape(str(value))}</li>" for name, value in chips.items())
    return f"<header><p class=over>study</p><h1>{escape(of.name)}</h1>{said}<ul class=chips>{listed}</ul></header>"


def _figures(of: Study, rows: list[Row]) -> str:
    """A table for each figure, that which the study is about first."""
    tables = [html.table(table.table(of, rows, name)) for name in comparison.figure_names(of) or [""]]
    return html.section("Figures", f"<p class=note>{escape(table.note(rows))}</p>{''.join(tables)}")


def _effects(of: Study, rows: list[Row]) -> str:
    """Each arm against the baseline with its interval, on one scale; on the logarithm for ratios."""
    names = comparison.figure_names(of)
    told = [(row.arm.label, row.effects[names[0]]) for row in rows if names and names[0] in row.effects]
    drawn = {label: _drawn(one) for label, one in told}
    ends = [v for points in drawn.values() for v in points if v is not None]
    if not ends:
        return ""
    low, high = min(0.0, *ends), max(0.0, *ends)
    air = (high - low) * 0.04 or 1.0

    def at(value: float) -> str:
        return f"{100 * (value - low + air) / (high - low + 2 * air):.2f}%"

    lanes, way = [], comparison.better(of, names[0])
    for label, one in told:
        value, left, right = drawn[label]
        span = ""
        if left is not None and right is not None:
            wide = 100 * (right - left) / (high - low + 2 * air)
            thin = " range" * (one.kind == "range")
            span = f'<i class="span{thin}" style="left:{at(left)};width:{wide:.2f}%"></i>'
        lane = f'<i class=zero style="left:{at(0)}"></i>{span}<i class=dot style="left:{at(value)}"></i>'
        look = "lane" if one.clear else "lane noise"
        lanes.append(
            f'<span>{escape(label)}</span><div class="{look}">{lane}</div><code>{comparison.effect(one, way)}</code>'
        )
    ratio = told[0][1].ratio
    note = f"<p class=note>{escape(names[0])} against {escape(of.arms[0].label)}" + ", as ratios" * ratio
    note += f"; {way} is better" * bool(way) + "; pale: within noise, or too few seeds to tell; dashed: a range of two"
    return html.section("Effects", f"{note}</p><div class=effects>{''.join(lanes)}</div>")


def _drawn(one: Effect) -> tuple[float, float | None, float | None]:
    """Where an effect and its ends are drawn; no change is at 0."""
    value, low, high = (v if v is None or not one.ratio else log(v) for v in (one.value, one.low, one.high))
    return value or 0.0, low, high


def _first(of: Study, arm: Arm) -> Trial:
    return of.of(arm)[0]


def _shown(of: Study, rows: list[Row]) -> list[Arm]:
    """The arms with curves and samples: all, or of many the baseline and those whose figure differs most from it."""
    names = comparison.figure_names(of)
    told = {row.arm.label: abs(_drawn(row.effects[names[0]])[0]) for row in rows if names and names[0] in row.effects}
    most = sorted(of.arms[1:], key=lambda arm: -told.get(arm.label, 0.0))[: SHOWN - 1]
    return [arm for arm in of.arms if arm is of.arms[0] or arm in most]


def _few(of: Study, arms: list[Arm]) -> str:
    return f"{len(arms)} of {len(of.arms)} arms, which differ most; " * (len(arms) < len(of.arms))


def _curves(of: Study, arms: list[Arm]) -> str:
    """The loss of each arm's first seed; losses of different metrics have different scales."""
    lines = []
    for i, arm in enumerate(arms):
        steps = sorted(read(_first(of, arm).folder).steps.items())
        points = [(k, finite(e.get("figures", {}).get("loss"))) for k, e in steps]
        lines.append(Series(arm.label, running_median(points), f"c{i % 6}"))
    note = f"{_few(of, arms)}seed {of.seeds[0]}, log scale; losses differ in scale between arms"
    drawn = chart("loss", lines, log=True, note=note)
    return html.section("Curves", f"<div class=large>{drawn}</div>" if drawn else "")


def _samples(of: Study, arms: list[Arm]) -> list[str]:
    """Grids of arms from the same latents beside training images, a row for each number of sampling steps."""
    found, data = [], _first(of, of.arms[0]).folder / "samples" / "data.png"
    real = html.picture(data, "Training images", "training images") if data.is_file() else ""
    for n in of.arms[0].recipe.evaluate.steps:
        grids = []
        for arm in arms:
            path = _first(of, arm).folder / "samples" / f"final-steps{n}.png"
            if path.is_file():
                grids.append(html.picture(path, f"Samples of {arm.label} in {n} steps", arm.label))
        title = f"Samples in {n} step{'s' * (n > 1)}, {_few(of, arms)}seed {of.seeds[0]}"
        found.append(html.section(title, "".join(grids) + real * bool(grids), "grids"))
    return found


def _arms(of: Study, rows: list[Row]) -> str:
    """What each arm changes, what it cost, and where its runs are."""
    told = [["arm", "changes", "seconds", *table.COSTS, "runs"]]
    for row in rows:
        runs = ", ".join(trial.folder.name for trial in of.of(row.arm))
        changes = "; ".join(row.arm.changes) or comparison.GAP
        told.append([row.arm.label, changes, f"{row.seconds:.0f}", *table.costs(row), runs])
    return html.section("Arms", html.table(told))
