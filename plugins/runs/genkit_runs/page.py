"""The whole store on one offline page, `index.html`: what there is as data, which `page.js` shows.

Pictures and reports stay where they are, beside the page, which names them; so it is small, and lives in the store.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from genkit.data import atomic
from genkit.evaluation import results
from genkit.runs import store
from genkit_reports import html
from genkit_runs import housekeeping, overview
from genkit_runs.housekeeping import Study
from genkit_runs.overview import Told

POINTS = 50_000  # of all curves together: half a megabyte
LONG = 120  # letters of a value in a recipe
HERE = Path(__file__).parent


def write(rows: list[Told], known: Iterable[Study], out: Path | None = None) -> Path:
    """Write the page, whole or not at all, by default to `index.html` of the store; gives its path.

    Raises:
        DataError: Nothing can be written there.
    """
    out = out or store.root() / "index.html"
    atomic.write(out, page(rows, list(known), out.parent))
    return out


def page(rows: list[Told], known: list[Study], beside: Path) -> str:
    """The page as HTML, for a file that lies in the folder `beside`."""
    data = json.dumps(told(rows, known, beside), separators=(",", ":")).replace("<", "\\u003c")
    many = f"{len(rows)} run{'s' * (len(rows) != 1)}, {len(known)} stud{'y' if len(known) == 1 else 'ies'}"
    body = (HERE / "page.html").read_text("utf-8").replace("MANY", escape(many))
    body += f'<script type="application/json" id=store>{data}</script>'
    style, script = ((HERE / f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    return html.document("Runs – genkit", body, style, script, pictures="data: 'self' file:")


def told(rows: list[Told], known: list[Study], beside: Path) -> dict[str, Any]:
    """What the page is told: recipes as a table of values, in which each run has places."""
    keys = [key for key in housekeeping.differing([row.recipe for row in rows]) if key != "name"]
    values = {key: list(dict.fromkeys(_shown(row.recipe, key) for row in rows)) for key in keys}
    differs = housekeeping.in_what((row.summary, row.recipe) for row in rows)
    most = max(10, min(200, POINTS // max(1, sum(len(row.curves(2)) for row in rows))))
    return {
        "keys": keys,
        "values": list(values.values()),
        "runs": [
            {
                **_run(row, beside, most),
                "differs": differs.get(row.summary.folder, ""),
                "recipe": [values[key].index(_shown(row.recipe, key)) for key in keys],
            }
            for row in rows
        ],
        "studies": [_study(study, beside) for study in known],
    }


def _run(row: Told, beside: Path, most: int) -> dict[str, Any]:
    s, curves = row.summary, row.curves(most)
    pictures = {path.stem.removeprefix("final-steps"): path for path in s.folder.glob("samples/final-steps*.png")}
    return {
        "run": s.folder.name,
        "name": s.name,
        "state": s.state,
        "k": s.k,
        "steps": s.steps,
        "created": round(s.created),
        "seconds": row.history.seconds and round(row.history.seconds),
        "studies": row.studies,
        "figures": {name: _short(value) for name, value in row.figures.items()},
        "apart": s.apart,
        "curves": {name: [[k for k, _ in line], [_short(v) for _, v in line]] for name, line in curves.items()},
        "pictures": {n: _link(pictures[n], beside) for n in sorted(pictures, key=results.rank)},
        "data": _link(s.folder / "samples" / "data.png", beside),
        "report": _link(s.folder / "report.html", beside),
    }


def _study(study: Study, beside: Path) -> dict[str, Any]:
    size = f"{study.arms} arms, {study.seeds} seed{'s' * (study.seeds != 1)}"
    link = _link(study.folder / "report.html", beside)
    said = overview.verdict(study)
    return {"study": study.folder.name, "size": size, "state": study.state, "said": said, "report": link}


def _shown(recipe: housekeeping.Flat, key: str) -> str:
    return results.GAP if recipe.get(key) is None else str(recipe[key])[:LONG]


def _short(value: float | None) -> float | None:
    """Four digits are more than a screen shows; null for what is no number."""
    number = results.finite(value)
    return None if number is None else float(f"{number:.4g}")


def _link(path: Path, beside: Path) -> str:
    """A file as the page names it; empty if there is none."""
    return quote(os.path.relpath(path, beside)) if path.is_file() else ""
