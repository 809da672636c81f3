"""A study compared: each arm's figures over its seeds, its paired difference to the baseline, and what that says."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from math import isfinite, nan
from typing import Any

import attrs

from genkit.data import atomic
from genkit.evaluation import results
from genkit_studies import statistics, study
from genkit_studies.statistics import Difference, Estimate, Noise
from genkit_studies.study import Arm, Study

GAP = "–"


@attrs.frozen(kw_only=True)
class Row:
    """One arm. `figures`, `differences` and `noise` are by the figure's name; what cannot be said is absent."""

    arm: Arm
    state: str
    seconds: float
    figures: Mapping[str, Estimate]
    differences: Mapping[str, Difference]
    noise: Mapping[str, Noise]


def figure_names(of: Study) -> list[str]:
    """The figures of any trial, that which the study is about first; floors are left out."""
    found = dict.fromkeys(n for t in of.trials if t.state == "done" for n in t.figures if not results.is_floor(n))
    return sorted(found, key=lambda name: name != of.metric)


def better(of: Study, name: str) -> str:
    """Which way a figure improves, as its metric says: "lower", "higher", or "" where it says nothing."""
    metric = of.arms[0].recipe.metrics.get(name.partition(".")[0])
    return str(getattr(metric, "better", ""))


def compare(of: Study) -> list[Row]:
    """A row for each arm, the baseline first. Diverged trials have no figure and are counted in `state`."""
    names, rows = figure_names(of), []
    by_arm = {arm.label: {name: _by_seed(of, arm, name) for name in names} for arm in of.arms}
    base = of.arms[0].label
    differences = {
        name: statistics.differences(by_arm[base][name], {a: f[name] for a, f in by_arm.items() if a != base})
        for name in names
    }
    for arm in of.arms:
        figures = {n: statistics.estimate(list(v.values())) for n, v in by_arm[arm.label].items() if v}
        own = {n: found[arm.label] for n, found in differences.items() if arm.label in found}
        trials = of.of(arm)
        spent, told = sum(t.seconds for t in trials), {n: _noise(of, arm, n) for n in names}
        noise = {n: one for n, one in told.items() if one.evaluation is not None}
        rows.append(
            Row(arm=arm, state=study.states(trials), seconds=spent, figures=figures, differences=own, noise=noise)
        )
    return rows


def _noise(of: Study, arm: Arm, name: str) -> Noise:
    trials = [t for t in of.of(arm) if t.seed in _by_seed(of, arm, name) and name in t.by_seed]
    return statistics.noise([t.by_seed[name] for t in trials])


def sentences(of: Study, rows: list[Row]) -> list[str]:
    """What the study says of its figure, for who reads nothing else."""
    names = figure_names(of)
    if not names:
        return ["No trial has figures yet."]
    name = names[0]
    way = better(of, name)
    said = [f"No trial has a figure {of.metric}; this is about another."] if of.metric not in ("", name) else []
    said += [f"{name}: {way} is better." if way else f"{name}: its metric does not say which direction is better."]
    if len(of.seeds) == 1:
        return [*said, "One seed: no noise estimate, so no difference here can be called real."]
    if name in rows[0].noise:
        said += [f"Noise of {rows[0].arm.label}, as standard deviations: {_spread(rows[0].noise[name])}."]
    told = {row.arm.label: row.differences[name] for row in rows if name in row.differences}
    clear = [f"{a} ({_signed(d.estimate.mean)}{_verdict(d, way)})" for a, d in told.items() if d.clear]
    noise = [a for a, d in told.items() if d.clear is False]
    unknown = [a for a, d in told.items() if d.clear is None]
    said += [f"Differences that matter: {', '.join(clear)}."] if clear else []
    said += [f"Within noise of the baseline: {', '.join(noise)}."] if noise else []
    said += [f"Fewer than three paired seeds, so no verdict: {', '.join(unknown)}."] if unknown else []
    return said + [f"{row.arm.label}: {row.state}." for row in rows if "diverged" in row.state]


def table(of: Study, rows: list[Row], figure: str = "") -> list[list[str]]:
    """A header and a row for each arm, as text: mean and interval, then the difference and its interval.

    Args:
        figure: The only one to show; all if not given.
    """
    names = [figure] if figure else figure_names(of)
    head = ["arm", "state"]
    for name in names:
        head += [f"{name}{_arrow(better(of, name))}", "difference"]
        head += ["noise of training, evaluation"] * _known(rows, name)
    body = []
    for row in rows:
        line = [row.arm.label, row.state]
        for name in names:
            line += cells(row, name)
            line += [_noises(row.noise.get(name))] * _known(rows, name)
        body.append(line)
    return [head, *body]


def cells(row: Row, name: str) -> list[str]:
    """A figure of an arm, and its difference to the baseline, as text."""
    return [_estimate(row.figures.get(name)), _difference(row.differences.get(name))]


def markdown(of: Study) -> str:
    """`table.md`."""
    rows = compare(of)
    head, *body = [[cell.replace("\\", "\\\\").replace("|", "\\|") for cell in r] for r in table(of, rows)]
    lines = [f"| {' | '.join(r)} |" for r in (head, ["---"] * len(head), *body)]
    changes = [f"- `{row.arm.label}`: {'; '.join(row.arm.changes)}" for row in rows if row.arm.changes]
    return "\n".join([*lines, "", *sentences(of, rows), note(rows), "", *changes, ""])


def latex(of: Study) -> str:
    r"""`table.tex`, for `\usepackage{booktabs}`."""
    rows = table(of, compare(of))
    head, *body = [" & ".join(map(_tex, r)) + r" \\" for r in rows]
    lines = [
        rf"\begin{{tabular}}{{{'ll'.ljust(len(rows[0]), 'r')}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
    ]
    return "\n".join([*lines, r"\end{tabular}", ""])


def comma_separated(of: Study) -> str:
    """`table.csv`: a line for each arm and figure, with full numbers."""
    out = io.StringIO()
    lines = [line for row in as_plain(of)["rows"] for line in row.pop("lines")]
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


COLUMNS = (
    "arm", "state", "figure", "better", "n", "mean", "interval", "low", "high",
    "difference", "difference_n", "difference_low", "difference_high", "p", "holm_p",
    "training_noise", "evaluation_noise", "seconds",
)  # fmt: skip
NOTE = (
    "In brackets: the 95% t-interval over three seeds or more, the range of two. Differences are paired by seed, "
    "their intervals at the level at which Holm's procedure tests the arm. "
)


def note(rows: list[Row]) -> str:
    """How the table is to be read."""
    if any(row.noise for row in rows):
        return f"{NOTE}Noise is told as standard deviations; intervals hold that of training and of evaluation."
    return f"{NOTE}They hold the noise of training and of evaluation together; evaluate.seeds=3 tells the two apart."


def as_plain(of: Study) -> dict[str, Any]:
    """`table.json`."""
    rows = compare(of)
    told = [{"arm": r.arm.label, "changes": r.arm.changes, "state": r.state, "lines": _lines(of, r)} for r in rows]
    return {"study": of.name, "id": of.id, "metric": of.metric, "summary": sentences(of, rows), "rows": told}


def write(of: Study) -> list[str]:
    """Write `table.md`, `.tex`, `.csv` and `.json` into the study's folder; gives their names."""
    made = {
        "table.md": markdown(of),
        "table.tex": latex(of),
        "table.csv": comma_separated(of),
        "table.json": json.dumps(as_plain(of), indent=1) + "\n",
    }
    for name, text in made.items():
        atomic.write(of.folder / name, text)
    return list(made)


def _lines(of: Study, row: Row) -> list[dict[str, Any]]:
    found = []
    for name, one in row.figures.items():
        line: dict[str, Any] = {"arm": row.arm.label, "state": row.state, "figure": name, "better": better(of, name)}
        line |= {"n": one.n, "mean": one.mean, "interval": one.kind, "low": one.low, "high": one.high}
        if paired := row.differences.get(name):
            d = paired.estimate
            line |= {"difference": d.mean, "difference_n": d.n, "difference_low": d.low, "difference_high": d.high}
            line |= {"p": paired.p, "holm_p": paired.adjusted}
        if noise := row.noise.get(name):
            line |= {"training_noise": noise.training, "evaluation_noise": noise.evaluation}
        found.append({**line, "seconds": row.seconds})
    return found


def _by_seed(of: Study, arm: Arm, name: str) -> dict[int, float]:
    """A figure of an arm by seed; one that is not finite is no figure."""
    return {t.seed: t.figures[name] for t in of.of(arm) if t.state == "done" and isfinite(t.figures.get(name, nan))}


def _arrow(way: str) -> str:
    return f" ({way} is better)" if way else ""


def _signed(value: float) -> str:
    return f"{value:+.3g}"


def _verdict(one: Difference, way: str) -> str:
    return "" if not way else ", better" if (one.estimate.mean < 0) == (way == "lower") else ", worse"


def _estimate(one: Estimate | None) -> str:
    if one is None:
        return GAP
    return f"{one.mean:.3g}" + (f" [{one.low:.3g}, {one.high:.3g}]" if one.low is not None else "")


def _difference(one: Difference | None) -> str:
    if one is None:
        return GAP
    low, high = one.estimate.low, one.estimate.high
    between = f" [{low:+.3g}, {high:+.3g}]" if low is not None and high is not None else ""
    return f"{_signed(one.estimate.mean)}{between}"


def _known(rows: list[Row], name: str) -> bool:
    return any(name in row.noise for row in rows)


def _noises(one: Noise | None) -> str:
    if one is None:
        return GAP
    return ", ".join(GAP if value is None else f"{value:.2g}" for value in (one.training, one.evaluation))


def _spread(one: Noise) -> str:
    parts = {"training": one.training, "evaluation": one.evaluation}
    return ", ".join(f"{value:.2g} of {what}" for what, value in parts.items() if value is not None)


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--"}
    special |= {"<": r"\textless{}", ">": r"\textgreater{}"} | {c: f"\\{c}" for c in "&%$#_{}"}
    return "".join(special.get(c, c) for c in text)
