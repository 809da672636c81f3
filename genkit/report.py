"""The story of one run on one page: `report.html`, made from the run folder alone, that opens offline.

It needs neither torch nor a network nor a script. Whatever the folder lacks is left out of the page, and
whatever cannot be read is named on it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from genkit.charts import GAP, STYLE, Points, Series, chart, finite, running_median, tidy
from genkit.errors import CheckpointError

MOST_FRAMES = 16


@dataclass
class Story:
    """What a run folder tells. `steps` and `evaluated` hold what still counts after the last resume."""

    folder: Path
    text: str = ""
    recipe: dict = field(default_factory=dict)
    lock: dict = field(default_factory=dict)
    evaluations: dict[str, dict] = field(default_factory=dict)
    steps: dict[int, dict] = field(default_factory=dict)
    evaluated: dict[tuple[str, int], dict] = field(default_factory=dict)
    resumes: list[int] = field(default_factory=list)
    moments: list[tuple[object, str]] = field(default_factory=list)
    state: str = "unfinished"
    seconds: float | None = None
    problems: list[str] = field(default_factory=list)


# ---- reading -----------------------------------------------------------------------------------


def _load(path: Path, loads: Any, problems: list[str]) -> dict:
    """A file's mapping; `{}` if there is none yet, or with a problem noted if it cannot be read."""
    try:
        value = loads(path.read_text("utf-8"))
        if isinstance(value, dict):
            return value
        problems.append(f"{path.name} is not a table")
    except FileNotFoundError:
        pass
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{path.name} cannot be read: {error}")
    return {}


def _events(path: Path, problems: list[str]) -> Iterator[dict]:
    """The events; a torn last line is what a killed run leaves, any other broken line is a problem."""
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            event = None
            if number < len(lines):
                problems.append(f"events.jsonl, line {number}, cannot be read")
        if isinstance(event, dict):
            yield event


def read(folder: Path) -> Story:
    """The story of the run in `folder`; missing and torn files leave gaps."""
    story = Story(folder)
    path = folder / "recipe.toml"
    story.text = path.read_text("utf-8", "replace") if path.is_file() else ""
    story.recipe = _load(path, tomllib.loads, story.problems)
    story.lock = _load(folder / "lock.json", json.loads, story.problems)
    for path in sorted(folder.glob("evaluations/*.json")):
        story.evaluations[path.stem] = _load(path, json.loads, story.problems)
    events = list(_events(folder / "events.jsonl", story.problems))
    for event in events:
        _tell(story, event)
    story.seconds = _seconds(events)
    return story


def _tell(story: Story, event: Mapping[str, Any]) -> None:
    """Adds one event. A start or resume at k forgets what came after k: those weights are gone."""
    name, k = event.get("event"), event.get("k")
    k = k if isinstance(k, int) and finite(k) is not None else None
    if name in ("start", "resume") and k is not None:
        story.state = "unfinished"
        story.steps = {j: e for j, e in story.steps.items() if j <= k}
        story.evaluated = {at: e for at, e in story.evaluated.items() if at[1] <= k}
    if name == "step" and k is not None:
        story.steps[k] = dict(event)
    elif name == "evaluated" and k is not None:
        story.evaluated[str(event.get("protocol", "")), k] = dict(event)
    elif name == "resume" and k is not None:
        story.resumes.append(k)
        story.moments.append((event.get("time"), f"resumed at step {k}"))
    elif name == "notice":
        story.moments.append((event.get("time"), str(event.get("text", ""))))
    elif name == "end":
        story.state = str(event.get("outcome", "ended"))
        story.moments.append((event.get("time"), story.state if k is None else f"{story.state} at step {k}"))


def _seconds(events: list[dict]) -> float | None:
    """How long the run took: the last `elapsed`, or, if it was resumed, the sum over its sessions by the clock."""
    told = [e for e in events if e.get("event") in ("start", "resume", "step", "end")]
    if not any(e["event"] == "resume" for e in told):
        return next((s for e in reversed(told) if (s := finite(e.get("elapsed"))) is not None), None)
    sessions: list[list[float]] = [[]]
    for event in told:
        if event["event"] in ("start", "resume"):
            sessions.append([])
        if (now := finite(event.get("time"))) is not None:
            sessions[-1].append(now)
    return sum(max(times) - min(times) for times in sessions if times)


def _table(value: object) -> Mapping:
    return value if isinstance(value, Mapping) else {}


# ---- figures -----------------------------------------------------------------------------------


def figures_table(evaluation: Mapping[str, Any]) -> list[list[str]]:
    """A header, then a row for each figure: its value for each number of sampling steps, and its floor.

    Args:
        evaluation: What `evaluations/<protocol>.json` holds.
    """
    counts = sorted(_table(evaluation.get("steps")), key=_rank)
    figures = {n: _table(_table(evaluation["steps"][n]).get("figures")) for n in counts}
    names = list(dict.fromkeys(name for n in counts for name in figures[n]))
    floors = {name: f"{name}_floor" for name in names if f"{name}_floor" in names}
    rows = []
    for name in names:
        if name not in floors.values():
            row = [label(name), *(tidy(figures[n].get(name)) for n in counts)]
            values = dict.fromkeys(tidy(figures[n].get(floors.get(name))) for n in counts if name in floors)
            rows.append(row + [" / ".join(values)] * bool(floors))
    return [["figure", *map(_steps, counts), *(["floor"] if floors else [])], *rows]


def label(name: str) -> str:
    """`fd` for the figure "fd.fd", `fid · recall` for "fid.recall"."""
    table, _, figure = str(name).partition(".")
    return table if figure in ("", table) else f"{table} · {figure}"


def _rank(count: object) -> tuple:
    return (0, int(count), "") if str(count).isdecimal() else (1, 0, str(count))


def _steps(count: object) -> str:
    return "1 step" if str(count) == "1" else f"{count} steps"


def _evaluated(story: Story) -> dict[str, dict[str, dict[str, Points]]]:
    """Figures over k: title → number of sampling steps ("" if the event does not say) → points."""
    many, curves = len({at[0] for at in story.evaluated}) > 1, {}
    for (protocol, k), event in sorted(story.evaluated.items()):
        tables = _table(event.get("figures"))
        nested = {n: _table(t.get("figures", t)) for n, t in tables.items() if isinstance(t, Mapping)}
        for count, figures in (nested or {"": tables}).items():
            for name, value in figures.items():
                title = label(name) + (f" ({protocol})" if many else "")
                curves.setdefault(title, {}).setdefault(count, []).append((k, finite(value)))
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
    try:
        return datetime.fromtimestamp(finite(time), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (TypeError, ValueError, OverflowError, OSError):
        return GAP


def _summary(story: Story) -> str:
    """What was trained, on one line."""
    train, lock = _table(story.recipe.get("train")), story.lock
    objective, dataset = (_table(story.recipe.get(kind)).get("use") for kind in ("objective", "dataset"))
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
        parts.append(str(lock["device"]) + (f" with {threads} threads" if threads and lock["device"] == "cpu" else ""))
    return " · ".join(escape(part) for part in parts if part)


def _choices(table: Mapping, slot: str = "") -> Iterator[tuple[str, str]]:
    """The components that a recipe names, at any depth: (slot, name)."""
    if "use" in table:
        yield slot, str(table["use"])
    for key, value in table.items():
        yield from _choices(_table(value), f"{slot}.{key}".lstrip("."))


def _header(story: Story) -> str:
    chips = "".join(f"<li><span>{escape(a)}</span> {escape(b)}</li>" for a, b in _choices(story.recipe))
    tone = {"done": "good", "diverged": "bad", "preempted": "warn", "interrupted": "warn"}.get(story.state, "busy")
    run = f"<code>{escape(str(story.lock['id']))}</code>" if story.lock.get("id") else ""
    state = f'<span class="state {tone}">{escape(story.state)}</span>'
    chips = f'<ul class=chips aria-label="components">{chips}</ul>' if chips else ""
    return f"<header><p class=over>{run}{state}</p><h1>{escape(_name(story))}</h1><p>{_summary(story)}</p>{chips}</header>"


def _name(story: Story) -> str:
    return str(story.lock.get("name") or story.recipe.get("name") or story.folder.resolve().name)


def _html_table(rows: Iterable[list[str]], caption: str = "") -> str:
    """A table whose first row and first column are headers."""
    head, *body = [[escape(cell) for cell in row] for row in rows]
    top = "".join(f"<th scope=col>{cell}</th>" for cell in head)
    lines = "".join(f"<tr><th scope=row>{r[0]}</th>{''.join(f'<td>{c}</td>' for c in r[1:])}</tr>" for r in body)
    caption = f"<caption>{caption}</caption>" if caption else ""
    return f"<div class=wide><table>{caption}<thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>"


def _figures(story: Story) -> str:
    tables = []
    for protocol, evaluation in story.evaluations.items():
        settings = {k: v for k, v in _table(evaluation.get("protocol")).items() if not isinstance(v, (Mapping, list))}
        said = ", ".join(f"{k} {v}" for k, v in settings.items())
        k = finite(evaluation.get("k"))
        caption = f"<b>{escape(protocol)}</b>{f' at step {k:,.0f}' if k is not None else ''}<br>{escape(said)}"
        if evaluation:
            tables.append(_html_table(figures_table(evaluation), caption))
    return _section("Figures", "".join(tables))


def _picture(path: Path, alt: str, caption: str) -> str:
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
    found = [(m[1], p) for p in story.folder.glob("samples/final-steps*.png") if (m := re.search(r"(\d+)\.png$", p.name))]
    found = sorted(found, key=lambda pair: int(pair[0]))
    figures = (_picture(p, f"Grid of final samples drawn in {_steps(n)}", f"drawn in {_steps(n)}") for n, p in found)
    return _section("Samples", "".join(figures), "grids")


def _film(story: Story) -> str:
    """Grids from training, at most `MOST_FRAMES` for each number of sampling steps."""
    frames: dict[str, list[tuple[int, Path]]] = {}
    for path in story.folder.glob("samples/step-*.png"):
        if match := re.fullmatch(r"step-(\d+)-steps(\d+)\.png", path.name):
            frames.setdefault(match[2], []).append((int(match[1]), path))
    strips = []
    for n, row in sorted(frames.items(), key=lambda item: int(item[0])):
        row, last = sorted(row), len(row) - 1
        row = [row[i] for i in sorted({round(j * last / (MOST_FRAMES - 1)) for j in range(MOST_FRAMES)})]
        cells = (_picture(p, f"Samples in {_steps(n)} after {k} training steps", f"step {k:,}") for k, p in row)
        strips.append(f'<h3>drawn in {_steps(n)}</h3><div class=film tabindex=0>{"".join(cells)}</div>')
    return _section("Samples over training", "".join(strips))


def _pair(points: Points) -> list[Series]:
    return [Series("each", points, "raw"), Series("median", running_median(points))]


def _curves(story: Story) -> str:
    """Loss and N(k) large, every other figure of the steps small."""
    steps = sorted(story.steps.items())
    names = list(dict.fromkeys(name for _, e in steps for name in _table(e.get("figures"))))
    lines = {n: [(k, finite(e["figures"][n])) for k, e in steps if n in _table(e.get("figures"))] for n in names}
    speed = [(k, finite(e["images_per_sec"])) for k, e in steps if "images_per_sec" in e]
    marks = story.resumes
    loss, levels = lines.pop("loss", []), lines.pop("N", [])
    large = chart("loss", _pair(loss), log=True, marks=marks) + chart(
        "N(k)", [Series("N", levels)], log=True, stairs=True, marks=marks, note="grid points, log scale"
    )
    small = [chart(title, _pair(points), marks=marks) for title, points in [*lines.items(), ("images/s", speed)]]
    body = f"<div class=large>{large}</div><div class=small>{''.join(small)}</div>"
    return _section("Curves", body if large or any(small) else "")


def _progress(story: Story) -> str:
    """Evaluation figures over k, where there is more than one evaluation; floors are dotted."""
    curves, charts = _evaluated(story), []
    for title, by_count in curves.items():
        if title.partition(" (")[0].endswith("_floor") or max(map(len, by_count.values())) < 2:
            continue
        counts = sorted(by_count, key=_rank)
        lines = [Series(_steps(n) if n else title, by_count[n], f"c{i % 6}") for i, n in enumerate(counts)]
        floor = curves.get(_floor_of(title), {}).get(counts[0], [])
        charts.append(chart(title, [Series("floor", floor, "floor"), *lines], dots=True, marks=story.resumes))
    return _section("Figures over training", f"<div class=small>{''.join(charts)}</div>" if charts else "")


def _flat(value: Mapping, stem: str = "") -> Iterator[list[str]]:
    for key, entry in value.items():
        if isinstance(entry, Mapping):
            yield from _flat(entry, f"{stem}{key} · ")
        else:
            yield [f"{stem}{key}", GAP if entry is None else str(entry)]


def _details(story: Story) -> str:
    told = [f"<li><time>{_when(time)}</time> {escape(what)}</li>" for time, what in story.moments]
    told += [f"<li><time>this page</time> {escape(problem)}</li>" for problem in story.problems]
    made = _html_table([["what", "value"], *_flat(story.lock)]) if story.lock else ""
    recipe = f"<details><summary>resolved recipe</summary><pre>{escape(story.text)}</pre></details>"
    return (
        _section("Notices", f"<ul class=log>{''.join(told)}</ul>" if told else "")
        + _section("Recipe", recipe if story.text else "")
        + _section("Made with", made)
    )


def _section(title: str, body: str, look: str = "") -> str:
    return f'<section class="{look}"><h2>{title}</h2><div class=body>{body}</div></section>' if body else ""


def page(story: Story) -> str:
    """The whole page as HTML."""
    hero = _figures(story) + _grids(story)
    body = f"{_header(story)}<div class=hero>{hero}</div>{_curves(story)}{_progress(story)}{_film(story)}"
    empty = "" if story.steps or hero else "<p>Nothing is recorded yet.</p>"
    return f"""<!doctype html>
<html lang=en><head><meta charset=utf-8>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name=viewport content="width=device-width, initial-scale=1"><meta name=color-scheme content="light dark">
<title>{escape(_name(story))} – genkit</title><style>{PAGE}{STYLE}</style></head>
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


PAGE = """
:root{--paper:#f6f4ef;--card:#fffefb;--ink:#1d1b18;--text:#45413b;--soft:#857f75;--line:#e7e2d8;--c0:#3b4cca;--c1:#d9572b;
--c2:#12806a;--c3:#a8328e;--c4:#b58105;--c5:#5b6770;--good:#12734f;--bad:#b3261e;--warn:#946200;--busy:#3b4cca;
--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
--mono:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
@media(prefers-color-scheme:dark){:root{--paper:#121316;--card:#1a1c20;--ink:#f1efea;--text:#c3c0b9;--soft:#8b8a86;
--line:#2b2d33;--c0:#8d9bff;--c1:#ff8d63;--c2:#4cc9a9;--c3:#e78bd2;--c4:#e5b94b;--c5:#a3b0ba;--good:#5bd3a2;--bad:#ff8a80;
--warn:#f0bf5a;--busy:#8d9bff}}
*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--text);font:400 .95rem/1.6 var(--sans);font-variant-numeric:tabular-nums}
main{max-width:77rem;margin:0 auto;padding:clamp(1.5rem,5vw,4.5rem) clamp(1rem,4vw,3rem) 5rem}
h1,h2,h3,p,ul,figure{margin:0;padding:0}code,pre,time{font-family:var(--mono);font-size:.85em}
h1{font:500 clamp(2.1rem,6.5vw,4rem)/1.08 "Iowan Old Style",Palatino,Charter,Georgia,serif;color:var(--ink);
letter-spacing:-.02em;overflow-wrap:anywhere;margin:.9rem 0 .8rem}
header p{max-width:52rem}header>p:not(.over){font-size:1.05rem}
.over{display:flex;gap:.9rem;align-items:center;color:var(--soft)}
.state{font-size:.8rem;font-weight:600;border:1px solid;border-radius:2rem;padding:.05rem .75rem}
.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}.busy{color:var(--busy)}
.chips{list-style:none;display:flex;flex-wrap:wrap;gap:.4rem;margin-top:1.3rem}
.chips li{font-size:.8rem;padding:.15rem .65rem;border:1px solid var(--line);border-radius:.4rem;background:var(--card);
color:var(--ink);overflow-wrap:anywhere}.chips span{color:var(--soft);margin-right:.25em}
section{margin-top:3.2rem;min-width:0}
h2{font-size:1.02rem;font-weight:600;color:var(--ink);padding-bottom:.5rem;margin-bottom:1.2rem;border-bottom:1px solid var(--line)}
h3{font-size:.82rem;font-weight:500;color:var(--soft);margin:0 0 .5rem}.film+h3{margin-top:1.2rem}
figcaption,caption{color:var(--soft);font-size:.85rem}
.hero{display:flex;flex-wrap:wrap;gap:0 3rem}.hero section{flex:1 1 19rem}.hero .grids{flex:2 1 34rem}
.grids .body{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(15rem,100%),1fr));gap:1.2rem}
img{display:block;height:auto;image-rendering:pixelated;border-radius:.35rem;background:var(--line)}
.grids img{width:var(--wide);max-width:100%}.grids figcaption{margin-top:.5rem}
.film{display:flex;gap:.8rem;overflow-x:auto;padding-bottom:.8rem}.film img{width:9.5rem}
.film figcaption{font-size:.78rem;margin-top:.35rem}
.large{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(26rem,100%),1fr));gap:1.2rem;--tall:15rem}
.small{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(19rem,100%),1fr));gap:1.2rem}.large+.small{margin-top:1.2rem}
.chart{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.8rem 1rem .6rem;min-width:0}
.wide{overflow-x:auto}.wide+.wide{margin-top:2rem}table{border-collapse:collapse;width:100%}
caption{text-align:left;margin-bottom:.5rem}caption b{color:var(--ink);font-weight:600}
th,td{text-align:right;padding:.42rem 0 .42rem 1.2rem;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:400;white-space:nowrap}th:first-child{text-align:left;padding-left:0}
thead th{font-size:.82rem;color:var(--soft)}td{color:var(--ink);overflow-wrap:anywhere}tr:last-child>*{border-bottom:0}
.log{list-style:none}.log li{padding:.35rem 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere}
.log time{color:var(--soft);margin-right:1rem;white-space:nowrap}
summary{cursor:pointer;color:var(--ink)}
pre{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1rem;line-height:1.55}
:focus-visible{outline:2px solid var(--busy);outline-offset:2px}
"""
