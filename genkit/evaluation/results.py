"""Evaluations as people read them: flat names of figures, a table, a line on how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Table = Mapping[str, Any]
GAP = "–"


def figures_of(evaluation: dict[str, Any]) -> dict[str, float]:
    """One flat table of an evaluation: {"fd.fd@1": …}, the number of sampling steps behind @."""
    return {f"{name}@{n}": v for n, row in evaluation.get("steps", {}).items() for name, v in row["figures"].items()}


def is_floor(name: str) -> bool:
    """Whether a figure, such as "fd.fd_floor@1", tells what perfect samples would score."""
    return name.partition("@")[0].endswith("_floor")


def figures_table(evaluation: Table) -> list[list[str]]:
    """A header, then a row for each figure: its value for each number of sampling steps, and its floor.

    Args:
        evaluation: What `evaluations/<protocol>.json` holds.
    """
    counts = sorted(table(evaluation.get("steps")), key=rank)
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
    return [["figure", *map(step_words, counts), *(["floor"] if floors else [])], *rows]


def _arrow(evaluation: Table, name: str) -> str:
    """Which way a figure improves, by its metric."""
    better = table(evaluation.get("better")).get(str(name).partition(".")[0])
    return {"lower": " ↓", "higher": " ↑"}.get(str(better), "")


def _least(value: object) -> str:
    """The least of several seeds, whose mean stands before it."""
    return "" if value is None else f" (min {tidy(value)})"


def apart(evaluation: Table, own: Table) -> str:
    """In what an evaluation differs from the one that its run's recipe asks for: "weights raw, samples 300".

    Args:
        own: The latter; empty if it is not there.
    """
    told, asked = ({**table(one.get("protocol")), "k": one.get("k")} for one in (evaluation, own))
    silent = {"name", "published", "features", "against" if told.get("data") != asked.get("data") else ""}
    differ = [n for n in {**told, **asked} if n not in silent and told.get(n) != asked.get(n)]
    simple = {n: told.get(n) for n in (differ if own else ("weights", "samples"))}
    return ", ".join(f"other {n}" if isinstance(v, Mapping) else f"{n} {v}" for n, v in simple.items())


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
    parts += [f"labels {told['labels']}"] if told.get("labels") == "evenly" else []
    parts += [str(told[name]) for name in ("weights",) if name in told]
    return " · ".join(part for part in parts if part)


def label(name: str) -> str:
    """`fd` for the figure "fd.fd", `fid · recall` for "fid.recall"."""
    table, _, figure = str(name).partition(".")
    return table if figure in ("", table) else f"{table} · {figure}"


def rank(count: str) -> tuple[int, int, str]:
    """Sorts numbers of sampling steps, and words behind them."""
    return (0, int(count), "") if count.isdecimal() else (1, 0, count)


def step_words(count: object) -> str:
    """ "1 step", "2 steps"; whatever is no number as it is."""
    return "1 step" if str(count) == "1" else f"{count} steps" if str(count).isdecimal() else str(count)


# ---- numbers and tables as they were found -------------------------------------------------------


def finite(value: object) -> float | None:
    """`value` as a float that can be drawn, or `None`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < 1e300 else None  # false for nan, too


def tidy(value: object) -> str:
    """A number in four significant digits; whole numbers in full; a dash for what is no finite number."""
    number = finite(value)
    if number is None:
        return GAP
    if isinstance(value, int):
        return str(value) if abs(value) < 10**12 else f"{value:.3e}"
    if number == 0:
        return "0"
    if not 1e-4 <= abs(number) < 1e6:
        return f"{number:.3e}"
    whole = number.is_integer() and abs(number) >= 10
    return f"{number:.0f}" if whole or abs(number) >= 999.95 else f"{number:#.4g}"


def table(value: object) -> Table:
    """A mapping as it is; whatever else as an empty one."""
    return value if isinstance(value, Mapping) else {}
