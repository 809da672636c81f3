"""Runs side by side: what each came to and how, in what their recipes differ; for the page and for the terminal."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from genkit.data import records
from genkit.errors import GenkitError
from genkit.evaluation import results
from genkit.evaluation.results import finite, table
from genkit.runs import store
from genkit_reports import history
from genkit_reports.charts import Points
from genkit_reports.history import History
from genkit_runs import housekeeping
from genkit_runs.housekeeping import Flat, Study


@attrs.frozen(kw_only=True)
class Told:
    """A run: its state and figures, its recipe as one row, what its folder tells of its course, and its studies."""

    summary: store.Summary
    recipe: Flat
    history: History
    studies: tuple[str, ...]

    @property
    def figures(self) -> dict[str, float]:
        """Figures by the run's own protocol, such as {"fd.fd@1": 0.7}, without floors."""
        rows = {n: {"figures": figures} for n, figures in self.summary.figures.items()}
        return {n: v for n, v in results.figures_of({"steps": rows}).items() if not results.is_floor(n)}

    def curves(self, most: int) -> dict[str, Points]:
        """The loss, and figures that were measured more than once, over the step; of at most so many points."""
        found: dict[str, Points] = {}
        for k, event in sorted(self.history.steps.items()):
            found.setdefault("loss", []).append((k, finite(table(event.get("figures")).get("loss"))))
        own = self.history.lock.get("evaluation")
        for (protocol, k), event in sorted(self.history.evaluated.items(), key=lambda item: item[0][1]):
            for name, value in table(event.get("figures")).items():
                if protocol == own and not results.is_floor(name):
                    found.setdefault(name, []).append((k, finite(value)))
        return {name: medians(points, most) for name, points in found.items() if len(points) > 1}


def medians(points: Points, most: int) -> Points:
    """A line of at most `most` points: the median of each bucket of neighbours, at its last; gaps are left out."""
    solid = [(k, v) for k, v in points if v is not None]
    count = min(most, len(solid))
    cuts = [i * len(solid) // count for i in range(count + 1)] if count else []
    parts = [solid[a:b] for a, b in itertools.pairwise(cuts)]
    return [(part[-1][0], statistics.median(v for _, v in part)) for part in parts]


def told(found: Iterable[store.Summary], known: Iterable[Study]) -> list[Told]:
    """Runs with all that can be told of them; those whose recipe cannot be read are left out."""
    known, rows = list(known), []
    for s, recipe in housekeeping.recipes(found):
        inside = tuple(study.folder.name for study in known if s.folder.resolve() in study.trials)
        rows.append(Told(summary=s, recipe=recipe, history=history.read(s.folder), studies=inside))
    return rows


def verdict(study: Study) -> str:
    """What a study says of itself, as its table has it; empty before."""
    try:
        said = records.read(study.folder / "table.json").get("summary", [])
    except GenkitError:
        return ""
    return " ".join(map(str, said)) if isinstance(said, list) else ""


def apart(rows: list[Told]) -> dict[str, dict[str, list[Any]]]:
    """In what runs differ: keys of their recipes, components first, and figures, each with the value of every run."""
    sides: Mapping[str, list[Flat]] = {"recipe": [r.recipe for r in rows], "figures": [dict(r.figures) for r in rows]}
    return {
        kind: {key: [side.get(key) for side in each] for key in housekeeping.differing(each)}
        for kind, each in sides.items()
    }
