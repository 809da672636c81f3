"""The story of one run on one page: `report.html`, made from the run folder alone, that opens offline.

It needs neither torch nor a network nor a script. Whatever the folder lacks is left out of the page, and
whatever cannot be read is named on it.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from genkit.charts import GAP, Points, Series, chart, finite, running_median, tidy
from genkit.errors import CheckpointError
from genkit.story import Story, Table, read, table

MOST_FRAMES = 16


# ---- figures -----------------------------------------------------------------------------------


def figures_table(evaluation: Table) -> list[list[str]]:
    """A header, then a row for each figure: its value for each number of sampling steps, and its floor.

    Args:
        evaluation: What `evaluations/<protocol>.json` holds.
    """
    counts = sorted(table(evaluation.get("steps")), key=_rank)
    figures = {n: table(table(evaluation["steps"][n]).get("figures")) for n in counts}
    minima = {n: table(table(evaluation["steps"][n]).get("minimum")) for n in counts}
    names = list(dict.fromkeys(name for n in counts for name in figures[n]))
    floors = {name: f"{name}_floor" for name in names if f"{name}_floor" in names}
    rows = []
    for name in names:
        if name not in floors.values():
            row = [f"{label(name)}{_arrow(evaluation, name)}"]
            row += [tidy(figures[n].get(name)) + _least(minima[n].get(name)) for n in counts]
            values = dict.fromkeys(tidy(figures[n].get(floors[name])) for n in counts if name in floors)
            rows.append(row + [" / ".join(values)] * bool(floors))
    return [["figure", *map(_steps, counts), *(["floor"] if floors else [])], *rows]


def _arrow(evaluation: Table, name: str) -> str:
    """Which way a figure improves, by its metric."""
    better = table(evaluation.get("better")).get(str(name).partition(".")[0])
    return {"lower": " ↓", "higher": " ↑"}.get(str(better), "")


def _least(value: object) -> str:
    """The least of several seeds, whose mean stands before it."""
    return "" if value is None else f" (min {tidy(value)})"


def protocol_line(evaluation: Table) -> str:
    """How an evaluation was made, in a line; what a file does not tell is left out."""
    told = table(evaluation.get("protocol"))
    published, seeds = table(told.get("published")), told.get("seeds")
    parts = [str(told.get("name", "")), f"{told['samples']:,} samples" if finite(told.get("samples")) else ""]
    if isinstance(seeds, list):
        parts.append(f"{len(seeds)} seed{'s' * (len(seeds) != 1)}")
    if published and published != {"samples": told.get("samples"), "seeds": len(seeds) if seeds else 1}:
        times = f", {published['seeds']} seeds" if published.get("seeds") != 1 else ""
        parts.append(f"published are {published.get('samples'):,}{times}")
    features, against = (table(told.get(name)) for name in ("features", "against"))
    parts += dict.fromkeys(f"{name} against {against.get(table)}" for table, name in features.items())
    parts += [str(told[name]) for name in ("weights",) if name in told]
    return " · ".join(part for part in parts if part)


def label(name: str) -> str:
    """`fd` for the figure "fd.fd", `fid · recall` for "fid.recall"."""
    table, _, figure = str(name).partition(".")
    return table if figure in ("", table) else f"{table} · {figure}"


def _rank(count: str) -> tuple[int, int, str]:
    return (0, int(count), "") if count.isdecimal() else (1, 0, count)


def _steps(count: object) -> str:
    return "1 step" if str(count) == "1" else f"{count} steps" if str(count).isdecimal() else str(count)


def _evaluated(story: Story) -> dict[tuple[str, str], dict[str, Points]]:
    """Figures over k: (protocol, figure) → number of sampling steps → points."""
    curves: dict[tuple[str, str], dict[str, Points]] = {}
    for (protocol, k), event in sorted(story.evaluated.items()):
        for at, value in table(event.get("figures")).items():
            name, _, count = at.rpartition("@")
            curves.setdefault((protocol, name), {}).setdefault(count, []).append((k, finite(value)))
    return curves


# ---- sections ----------------------------------------------------------------------------------


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


def _summary(story: Story) -> str:
    """What was trained, on one line."""
    train, lock = table(story.recipe.get("train")), story.lock
    objective, dataset = (table(story.recipe.get(kind)).get("use") for kind in ("objective", "dataset"))
    done, total = max(story.steps, default=None), finite(train.get("steps"))
    batch, parameters, threads = finite(train.get("batch_size")), finite(lock.get("parameters")), lock.get("threads")
    parts = [" on ".join(str(word) for word in (objective, dataset) if word)]
    if total is not None:
        short = done is not None and done < total and story.state != "done"
        parts.append(f"{done:,} of {total:,.0f} steps" if short else f"{total:,.0f} steps")
    elif done is not None:
        parts.append(f"{done:,} steps")
    parts += [f"batches of {batch:,.0f}"] if batch is not None else []
    parts += [f"{_count(parameters)} parameters"] if parameters is not None else []
    parts += [_duration(story.seconds)] if story.seconds is not None else []
    if lock.get("device"):
        parts.append(str(lock["device"]) + (f", threads: {threads}" if threads and lock["device"] == "cpu" else ""))
    return " · ".join(escape(part) for part in parts if part)


def _choices(of: Table, slot: str = "") -> Iterator[tuple[str, str]]:
    """The components that a recipe names, at any depth: (slot, name)."""
    if "use" in of:
        yield slot, str(of["use"])
    for key, value in of.items():
        yield from _choices(table(value), f"{slot}.{key}".lstrip("."))


def _header(story: Story) -> str:
    chips = "".join(f"<li><span>{escape(a)}</span> {escape(b)}</li>" for a, b in _choices(story.recipe))
    tone = {"done": "good", "diverged": "bad", "preempted": "warn", "interrupted": "warn"}.get(story.state, "busy")
    run = f"<code>{escape(str(story.lock['id']))}</code>" if story.lock.get("id") else ""
    state = f'<span class="state {tone}">{escape(story.state)}</span>'
    chips = f'<ul class=chips aria-label="components">{chips}</ul>' if chips else ""
    title = f"<h1>{escape(_name(story))}</h1><p>{_summary(story)}</p>"
    return f"<header><p class=over>{run}{state}</p>{title}{chips}</header>"


def _name(story: Story) -> str:
    return str(story.lock.get("name") or story.recipe.get("name") or story.folder.resolve().name)


def html_table(rows: Iterable[list[str]], caption: str = "") -> str:
    """A table whose first row and first column are headers."""
    head, *body = [[escape(cell) for cell in row] for row in rows]
    top = "".join(f"<th scope=col>{cell}</th>" for cell in head)
    lines = "".join(f"<tr><th scope=row>{r[0]}</th>{''.join(f'<td>{c}</td>' for c in r[1:])}</tr>" for r in body)
    caption = f"<caption>{caption}</caption>" if caption else ""
    return f"<div class=wide><table>{caption}<thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>"


def _figures(story: Story) -> str:
    tables = []
    for protocol, evaluation in story.evaluations.items():
        said = protocol_line(evaluation)
        k = finite(evaluation.get("k"))
        caption = f"<b>{escape(protocol)}</b>{f' at step {k:,.0f}' if k is not None else ''}<br>{escape(said)}"
        if evaluation:
            tables.append(html_table(figures_table(evaluation), caption))
    return section("Figures", "".join(tables))


def picture(path: Path, alt: str, caption: str) -> str:
    """A picture inside the page, enlarged by a whole number; empty while it is not all written."""
    data = path.read_bytes()
    if not data.startswith(b"\x89PNG") or b"IEND" not in data[-12:]:
        return ""
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    wide = width * max(1, round(480 / max(width, 1)))
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    image = f'<img src="{source}" alt="{escape(alt)}" width={width} height={height} style="--wide:{wide}px">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _grids(story: Story) -> str:
    pictures = story.folder.glob("samples/final-steps*.png")
    found = sorted((int(m[1]), p) for p in pictures if (m := re.search(r"(\d+)\.png$", p.name)))
    figures = (picture(p, f"Grid of final samples drawn in {_steps(n)}", f"drawn in {_steps(n)}") for n, p in found)
    return section("Samples", "".join(figures), "grids")


def _film(story: Story) -> str:
    """Grids from training, at most `MOST_FRAMES` for each number of sampling steps."""
    frames: dict[str, list[tuple[int, Path]]] = {}
    for path in story.folder.glob("samples/step-*.png"):
        if match := re.fullmatch(r"step-(\d+)-steps(\d+)\.png", path.name):
            frames.setdefault(match[2], []).append((int(match[1]), path))
    strips = []
    for n, row in sorted(frames.items(), key=lambda item: int(item[0])):
        ordered, last = sorted(row), len(row) - 1
        shown = [ordered[i] for i in sorted({round(j * last / (MOST_FRAMES - 1)) for j in range(MOST_FRAMES)})]
        cells = (picture(p, f"Samples in {_steps(n)} after {k} training steps", f"step {k:,}") for k, p in shown)
        strips.append(f"<h3>drawn in {_steps(n)}</h3><div class=film tabindex=0>{''.join(cells)}</div>")
    return section("Samples over training", "".join(strips))


def _pair(points: Points) -> list[Series]:
    return [Series("each", points, "raw"), Series("median", running_median(points))]


def _curves(story: Story) -> str:
    """Loss and N(k) large, every other figure of the steps small."""
    steps = sorted(story.steps.items())
    names = list(dict.fromkeys(name for _, e in steps for name in table(e.get("figures"))))
    lines = {n: [(k, finite(e["figures"][n])) for k, e in steps if n in table(e.get("figures"))] for n in names}
    speed = [(k, finite(e["images_per_sec"])) for k, e in steps if "images_per_sec" in e]
    marks = story.resumes
    loss, levels = lines.pop("loss", []), lines.pop("N", [])
    large = chart("loss", _pair(loss), log=True, marks=marks) + chart(
        "N(k)", [Series("N", levels)], log=True, stairs=True, marks=marks, note="grid points, log scale"
    )
    small = [chart(title, _pair(points), marks=marks) for title, points in [*lines.items(), ("images/s", speed)]]
    body = f"<div class=large>{large}</div><div class=small>{''.join(small)}</div>"
    return section("Curves", body if large or any(small) else "")


def _progress(story: Story) -> str:
    """Evaluation figures over k, where there is more than one evaluation; floors are dotted."""
    curves, charts = _evaluated(story), []
    for (protocol, name), by_count in curves.items():
        if name.endswith("_floor") or max(map(len, by_count.values())) < 2:
            continue
        counts = sorted(by_count, key=_rank)
        lines = [Series(_steps(n), by_count[n], f"c{i % 6}") for i, n in enumerate(counts)]
        floor = curves.get((protocol, f"{name}_floor"), {}).get(counts[0], [])
        charts.append(chart(label(name), [Series("floor", floor, "floor"), *lines], dots=True, marks=story.resumes))
    return section("Figures over training", f"<div class=small>{''.join(charts)}</div>" if charts else "")


def _flat(value: Table, stem: str = "") -> Iterator[list[str]]:
    for key, entry in value.items():
        if isinstance(entry, Mapping):
            yield from _flat(entry, f"{stem}{key} · ")
        else:
            yield [f"{stem}{key}", GAP if entry is None else str(entry)]


def _details(story: Story) -> str:
    told = [f"<li><time>{_when(time)}</time> {escape(what)}</li>" for time, what in story.moments]
    told += [f"<li><time>this page</time> {escape(problem)}</li>" for problem in story.problems]
    made = html_table([["what", "value"], *_flat(story.lock)]) if story.lock else ""
    recipe = f"<details><summary>resolved recipe</summary><pre>{escape(story.text)}</pre></details>"
    return (
        section("Notices", f"<ul class=log>{''.join(told)}</ul>" if told else "")
        + section("Recipe", recipe if story.text else "")
        + section("Made with", made)
    )


def section(title: str, body: str, look: str = "") -> str:
    return f'<section class="{look}"><h2>{title}</h2><div class=body>{body}</div></section>' if body else ""


def page(story: Story) -> str:
    """The whole page as HTML."""
    hero = _figures(story) + _grids(story)
    body = f"{_header(story)}<div class=hero>{hero}</div>{_curves(story)}{_progress(story)}{_film(story)}"
    style = Path(__file__).with_name("report.css").read_text("utf-8")
    empty = "" if story.steps or hero else "<p>Nothing is recorded yet.</p>"
    return f"""<!doctype html>
<html lang=en><head><meta charset=utf-8>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name=viewport content="width=device-width, initial-scale=1"><meta name=color-scheme content="light dark">
<title>{escape(_name(story))} – genkit</title><style>{style}</style></head>
<body><main>{body}{empty}{_details(story)}</main></body></html>
"""


def write(folder: Path) -> Path:
    """Writes `report.html` into the run folder, whole or not at all, and returns its path.

    Raises:
        CheckpointError: `folder` is no folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(folder, "there is no such run folder", "give the folder that holds recipe.toml")
    target, draft = folder / "report.html", folder / f".report-{os.getpid()}.tmp"
    try:
        draft.write_bytes(page(read(folder)).encode("utf-8", "replace"))
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target
