"""One run on one page: `report.html`, made from the run folder alone, that opens offline.

It needs neither torch nor a network nor a script. Whatever the folder lacks is left out of the page, and
whatever cannot be read is named on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from genkit.data import atomic
from genkit.errors import CheckpointError, GenkitError
from genkit.evaluation import results
from genkit.evaluation.results import GAP, Table, finite, step_words, table
from genkit.kernel import loading
from genkit_reports import html
from genkit_reports.charts import Points, Series, chart, running_median
from genkit_reports.history import History, read

MOST_FRAMES = 16
MOST_LETTERS = 400  # of a value: of a thousand classes the first will do


def _evaluated(history: History) -> dict[tuple[str, str], dict[str, Points]]:
    """Figures over k: (protocol, figure) → number of sampling steps → points."""
    curves: dict[tuple[str, str], dict[str, Points]] = {}
    for (protocol, k), event in sorted(history.evaluated.items()):
        for at, value in table(event.get("figures")).items():
            name, _, count = at.rpartition("@")
            curves.setdefault((protocol, name), {}).setdefault(count, []).append((k, finite(value)))
    return curves


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 1:
        return f"{seconds:.3g} s"
    return f"{int(minutes)} min {int(seconds % 60)} s" if hours < 1 else f"{int(hours)} h {int(minutes % 60)} min"


def _count(value: float) -> str:
    return next((f"{value / u:.3g} {sign}" for u, sign in ((1e9, "G"), (1e6, "M")) if value >= u), f"{value:,.0f}")


def _when(time: object) -> str:
    seconds = finite(time)
    try:
        return GAP if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S UTC}"
    except (ValueError, OverflowError, OSError):
        return GAP


def _summary(history: History) -> str:
    """What was trained, on one line."""
    train, lock = table(history.recipe.get("train")), history.lock
    objective, dataset = (table(history.recipe.get(kind)).get("use") for kind in ("objective", "dataset"))
    done, total = max(history.steps, default=None), finite(train.get("steps"))
    batch, parameters, threads = finite(train.get("batch_size")), finite(lock.get("parameters")), lock.get("threads")
    parts = [" on ".join(str(word) for word in (objective, dataset) if word)]
    if total is not None:
        short = done is not None and done < total and history.state != "done"
        parts.append(f"{done:,} of {total:,.0f} steps" if short else f"{total:,.0f} steps")
    elif done is not None:
        parts.append(f"{done:,} steps")
    parts += [f"batches of {batch:,.0f}"] if batch is not None else []
    parts += [f"{_count(parameters)} parameters"] if parameters is not None else []
    parts += [_duration(history.seconds)] if history.seconds is not None else []
    if lock.get("device"):
        parts.append(str(lock["device"]) + (f", threads: {threads}" if threads and lock["device"] == "cpu" else ""))
    return " · ".join(escape(part) for part in parts if part)


def _choices(of: Table, slot: str = "") -> Iterator[tuple[str, str]]:
    """The components that a recipe names, at any depth: (slot, name)."""
    if "use" in of:
        yield slot, str(of["use"])
    for key, value in of.items():
        yield from _choices(table(value), f"{slot}.{key}".lstrip("."))


def _header(history: History) -> str:
    chips = "".join(f"<li><span>{escape(a)}</span> {escape(b)}</li>" for a, b in _choices(history.recipe))
    tone = {"done": "good", "diverged": "bad", "preempted": "warn", "interrupted": "warn"}.get(history.state, "busy")
    run = f"<code>{escape(str(history.lock['id']))}</code>" if history.lock.get("id") else ""
    state = f'<span class="state {tone}">{escape(history.state)}</span>'
    chips = f'<ul class=chips aria-label="components">{chips}</ul>' if chips else ""
    title = f"<h1>{escape(_title(history))}</h1><p>{_summary(history)}</p>"
    return f"<header><p class=over>{run}{state}</p>{title}{chips}</header>"


def _title(history: History) -> str:
    """The run's name; with its data, where those are not the ones of the installed recipe of that name."""
    name = str(history.lock.get("name") or history.recipe.get("name") or history.folder.resolve().name)
    data, usual = table(history.recipe.get("dataset")).get("use"), _usual_data(name)
    return f"{name} on {data}" if data and usual and data != usual else name


def _usual_data(recipe: str) -> str:
    """The data set of an installed recipe; empty where there is none of that name, or it cannot be read."""
    try:
        found = loading.installed().get(recipe)
        data = loading.layers_of(found[1])[0].tree.get("dataset", "") if found else ""
    except GenkitError:
        return ""
    return str(table(data).get("use", "") if not isinstance(data, str) else data)


def _figures(history: History) -> str:
    tables, asked = [], history.lock.get("evaluation")
    own = history.evaluations.get(str(asked), {})
    for protocol, evaluation in sorted(history.evaluations.items(), key=lambda item: item[0] != asked):
        apart = results.apart(evaluation, own) if asked and evaluation is not own else ""
        said = results.protocol_line(evaluation)
        k = finite(evaluation.get("k"))
        step = f" at step {k:,.0f}" if k is not None else ""
        told = f" – {escape(apart)}" if apart else ""
        caption = f"<b>{escape(protocol)}</b>{step}{told}<br>{escape(said)}"
        if evaluation:
            tables.append(html.table(results.figures_table(evaluation), caption))
    return html.section("Figures", "".join(tables))


def _grids(history: History) -> str:
    pictures = history.folder.glob("samples/final-steps*.png")
    found = sorted((int(m[1]), p) for p in pictures if (m := re.search(r"(\d+)\.png$", p.name)))
    figures = (
        html.picture(p, f"Grid of final samples drawn in {step_words(n)}", f"drawn in {step_words(n)}")
        for n, p in found
    )
    real = history.folder / "samples" / "data.png"
    beside = html.picture(real, "Grid of training images", "training images") if found and real.is_file() else ""
    return html.section("Samples", "".join(figures) + beside, "grids")


def _film(history: History) -> str:
    """Grids from training, at most `MOST_FRAMES` for each number of sampling steps."""
    frames: dict[str, list[tuple[int, Path]]] = {}
    for path in history.folder.glob("samples/step-*.png"):
        if match := re.fullmatch(r"step-(\d+)-steps(\d+)\.png", path.name):
            frames.setdefault(match[2], []).append((int(match[1]), path))
    strips = []
    for n, row in sorted(frames.items(), key=lambda item: int(item[0])):
        ordered, last = sorted(row), len(row) - 1
        shown = [ordered[i] for i in sorted({round(j * last / (MOST_FRAMES - 1)) for j in range(MOST_FRAMES)})]
        how = step_words(n)
        cells = (html.picture(p, f"Samples in {how} after {k} training steps", f"step {k:,}") for k, p in shown)
        strips.append(f"<h3>drawn in {how}</h3><div class=film tabindex=0>{''.join(cells)}</div>")
    return html.section("Samples over training", "".join(strips))


def _pair(points: Points) -> list[Series]:
    return [Series("each", points, "raw"), Series("median", running_median(points))]


def _curves(history: History) -> str:
    """Loss and N(k) large, every other figure of the steps small."""
    steps = sorted(history.steps.items())
    names = list(dict.fromkeys(name for _, e in steps for name in table(e.get("figures"))))
    lines = {n: [(k, finite(e["figures"][n])) for k, e in steps if n in table(e.get("figures"))] for n in names}
    speed = [(k, finite(e["images_per_sec"])) for k, e in steps if "images_per_sec" in e]
    marks = history.resumes
    loss, levels = lines.pop("loss", []), lines.pop("N", [])
    large = chart("loss", _pair(loss), log=True, marks=marks) + chart(
        "N(k)", [Series("N", levels)], log=True, stairs=True, marks=marks, note="grid points, log scale"
    )
    small = [chart(title, _pair(points), marks=marks) for title, points in [*lines.items(), ("images/s", speed)]]
    body = f"<div class=large>{large}</div><div class=small>{''.join(small)}</div>"
    return html.section("Curves", body if large or any(small) else "")


def _progress(history: History) -> str:
    """Evaluation figures over k, where there is more than one evaluation; floors are dotted."""
    curves, charts = _evaluated(history), []
    for (protocol, name), by_count in curves.items():
        if name.endswith("_floor") or max(map(len, by_count.values())) < 2:
            continue
        counts = sorted(by_count, key=results.rank)
        lines = [Series(step_words(n), by_count[n], f"c{i % 6}") for i, n in enumerate(counts)]
        floor = curves.get((protocol, f"{name}_floor"), {}).get(counts[0], [])
        charts.append(
            chart(results.label(name), [Series("floor", floor, "floor"), *lines], dots=True, marks=history.resumes)
        )
    return html.section("Figures over training", f"<div class=small>{''.join(charts)}</div>" if charts else "")


def _flat(value: Table, stem: str = "") -> Iterator[list[str]]:
    for key, entry in value.items():
        if isinstance(entry, Mapping):
            yield from _flat(entry, f"{stem}{key} · ")
        else:
            yield [f"{stem}{key}", GAP if entry is None else str(entry)[:MOST_LETTERS]]


def _details(history: History) -> str:
    told = [f"<li><time>{_when(time)}</time> {escape(what)}</li>" for time, what in history.moments]
    told += [f"<li><time>this page</time> {escape(problem)}</li>" for problem in history.problems]
    made = html.table([["what", "value"], *_flat(history.lock)]) if history.lock else ""
    recipe = f"<details><summary>resolved recipe</summary><pre>{escape(history.text)}</pre></details>"
    return (
        html.section("Notices", f"<ul class=log>{''.join(told)}</ul>" if told else "")
        + html.section("Recipe", recipe if history.text else "")
        + html.section("Made with", made)
    )


def page(history: History) -> str:
    """The whole page as HTML."""
    hero = _figures(history) + _grids(history)
    body = f"{_header(history)}<div class=hero>{hero}</div>{_curves(history)}{_progress(history)}{_film(history)}"
    empty = "" if history.steps or hero else "<p>Nothing is recorded yet.</p>"
    return html.document(f"{_title(history)} – genkit", f"{body}{empty}{_details(history)}")


def write(folder: Path, out: Path | None = None) -> Path:
    """Writes the page, whole or not at all, to `out`, by default `report.html` in the run folder; gives its path.

    Raises:
        CheckpointError: `folder` is no folder.
        DataError: Nothing can be written there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(folder, "there is no such run folder", "give the folder that holds recipe.toml")
    out = out or folder / "report.html"
    atomic.write(out, page(read(folder)))
    return out
