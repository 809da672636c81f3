"""The table of a study: for a terminal, a page, papers and programs, and how it is to be read."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from genkit.data import atomic
from genkit_studies import statistics
from genkit_studies.comparison import GAP, Row, better, better_of, effect, figure_names, looks, sentences, span
from genkit_studies.statistics import Estimate, Noise
from genkit_studies.study import Study

AGAINST = "against the baseline"
COLUMNS = (
    "arm", "state", "figure", "better", "n", "mean", "interval", "low", "high",
    "scale", "effect", "effect_interval", "effect_low", "effect_high", "p", "procedure", "level",
    "training_noise", "evaluation_noise", "seconds", "milliseconds_an_image", "memory_bytes",
)  # fmt: skip
PROCEDURES = {
    "dunnett": "Dunnett's test with the variance of all arms pooled",
    "welch": "Welch's test with each arm's own variance, adjusted by Bonferroni, as one arm is noisier than the others",
}
NOTE = (
    "In brackets: intervals. Those of figures are each arm's own, 95%; positive figures have geometric means. "
    "Those against the baseline hold for all arms together, and a difference is clear exactly where its interval "
    "leaves no change (1 time, or 0) out"
)
MARK = " *"
MORE = 'An arm with a * changes more than its name says; "also" marks what, among its changes. '
RANGES = "In parentheses: all that two seeds gave, which is no interval. "


def table(of: Study, rows: list[Row], figure: str = "") -> list[list[str]]:
    """A header and a row for each arm, as text: mean and interval, then what it is against the baseline, and its own.

    Args:
        figure: The only one to show; all if not given.
    """
    names = [figure] if figure else figure_names(of)
    head = ["arm", "state"]
    for name in names:
        head += [f"{name}{_arrow(better(of, name))}", AGAINST]
        head += ["noise of training, evaluation"] * _known(rows, name)
    body = []
    for row in rows:
        line = [row.arm.label + MARK * _more(row), row.state]
        for name in names:
            line += cells(row, name)
            line += [_noises(row.noise.get(name))] * _known(rows, name)
        body.append(line)
    return [head, *body]


COSTS = ["ms an image", "GB"]


def costs(row: Row) -> list[str]:
    """What an arm's training takes: time for each image that is seen, and memory."""
    time, memory = row.milliseconds, row.memory
    return [f"{time:.3g}" if time else GAP, f"{memory / 1e9:.2g}" if memory else GAP]


def _priced(of: Study, rows: list[Row]) -> list[list[str]]:
    """The table with what arms cost."""
    head, *body = table(of, rows)
    return [[*head, *COSTS], *([*line, *costs(row)] for line, row in zip(body, rows, strict=True))]


def cells(row: Row, name: str) -> list[str]:
    """A figure of an arm, and what it is against the baseline, as text."""
    one = row.effects.get(name)
    return [_estimate(row.figures.get(name)), effect(one, better_of(row.arm, name)) if one else GAP]


def note(rows: list[Row]) -> str:
    """How the table is to be read, and which procedure made it."""
    also = MORE if any(map(_more, rows)) else ""
    ranges = "range" in {one.kind for row in rows for told in (row.figures, row.effects) for one in told.values()}
    text = f"{NOTE}{_procedures(rows)}. {RANGES * ranges}{also}"
    if any(row.noise for row in rows):
        return f"{text}Noise is told as standard deviations; intervals hold that of training and of evaluation."
    return f"{text}They hold the noise of training and of evaluation together; evaluate.seeds=3 tells the two apart."


def _more(row: Row) -> bool:
    """Whether an arm changes more than its name says."""
    return any(change.startswith("also ") for change in row.arm.changes)


def _procedures(rows: list[Row]) -> str:
    families = rows[0].families if rows else {}
    by = {how: [name for name, one in families.items() if one.procedure == how] for how in PROCEDURES}
    used = {how: names for how, names in by.items() if names}
    told = [PROCEDURES[how] + f" ({', '.join(names)})" * (len(used) > 1) for how, names in used.items()]
    error = next((one.level for one in families.values()), statistics.ALPHA)
    return f": {'; '.join(told)}, {100 * (1 - error):.4g}%" if told else ""


def markdown(of: Study, rows: list[Row]) -> str:
    """`table.md`."""
    head, *body = [[cell.replace("\\", "\\\\").replace("|", "\\|") for cell in r] for r in _priced(of, rows)]
    lines = [f"| {' | '.join(r)} |" for r in (head, ["---"] * len(head), *body)]
    changes = [f"- `{row.arm.label}`: {'; '.join(row.arm.changes)}" for row in rows if row.arm.changes]
    return "\n".join([*lines, "", *sentences(of, rows), note(rows), "", *changes, ""])


def latex(of: Study, rows: list[Row]) -> str:
    r"""`table.tex`, for `\usepackage{booktabs}`."""
    told = _priced(of, rows)
    head, *body = [" & ".join(map(_tex, r)) + r" \\" for r in told]
    lines = [
        rf"\begin{{tabular}}{{{'ll'.ljust(len(told[0]), 'r')}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
    ]
    return "\n".join([*lines, r"\end{tabular}", ""])


def comma_separated(of: Study, rows: list[Row]) -> str:
    """`table.csv`: a line for each arm and figure, with full numbers."""
    out = io.StringIO()
    lines = [line for row in rows for line in _lines(of, row)]
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def as_plain(of: Study, rows: list[Row]) -> dict[str, Any]:
    """`table.json`."""
    told = [{"arm": r.arm.label, "changes": r.arm.changes, "state": r.state, "lines": _lines(of, r)} for r in rows]
    return {
        "study": of.name,
        "id": of.id,
        "metric": of.metric,
        "looks": looks(of),
        "summary": sentences(of, rows),
        "rows": told,
    }


def write(of: Study, rows: list[Row]) -> list[Path]:
    """Write `table.md`, `.tex`, `.csv` and `.json` into the study's folder; gives their paths."""
    made = {
        "table.md": markdown(of, rows),
        "table.tex": latex(of, rows),
        "table.csv": comma_separated(of, rows),
        "table.json": json.dumps(as_plain(of, rows), indent=1) + "\n",
    }
    for name, text in made.items():
        atomic.write(of.folder / name, text)
    return [of.folder / name for name in made]


def _lines(of: Study, row: Row) -> list[dict[str, Any]]:
    found = []
    for name, one in row.figures.items():
        line: dict[str, Any] = {"arm": row.arm.label, "state": row.state, "figure": name, "better": better(of, name)}
        line |= {"n": one.n, "mean": one.mean, "interval": one.kind, "low": one.low, "high": one.high}
        if e := row.effects.get(name):
            family = row.families[name]
            line |= {"scale": "ratio" if e.ratio else "difference", "effect": e.value, "effect_interval": e.kind}
            line |= {"effect_low": e.low, "effect_high": e.high, "p": e.p}
            line |= {"procedure": family.procedure, "level": family.level} if e.kind == "interval" else {}
        if noise := row.noise.get(name):
            line |= {"training_noise": noise.training, "evaluation_noise": noise.evaluation}
        costs = {"milliseconds_an_image": row.milliseconds, "memory_bytes": row.memory}
        found.append({**line, "seconds": row.seconds, **costs})
    return found


def _arrow(way: str) -> str:
    return f" ({way} is better)" if way else ""


def _estimate(one: Estimate | None) -> str:
    return GAP if one is None else f"{one.mean:.3g}{span(one, lambda value: f'{value:.3g}')}"


def _known(rows: list[Row], name: str) -> bool:
    return any(name in row.noise for row in rows)


def _noises(one: Noise | None) -> str:
    if one is None:
        return GAP
    return ", ".join(GAP if value is None else f"{value:.2g}" for value in (one.training, one.evaluation))


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--"}
    special |= {"<": r"\textless{}", ">": r"\textgreater{}"} | {c: f"\\{c}" for c in "&%$#_{}"}
    return "".join(special.get(c, c) for c in text)
