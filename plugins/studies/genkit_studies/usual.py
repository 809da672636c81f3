"""How a recipe's figure usually scatters over seeds: what a study that has no figures yet goes by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genkit.data import records
from genkit.evaluation import results
from genkit_studies import statistics, study
from genkit_studies.study import Study

USUAL = 0.35  # on the logarithm: between what digits (0.1) and the ring (0.5 to 1.4) were measured to have


def noise(of: Study) -> tuple[float, str]:
    """The standard deviation of the logarithm of its figure, and the words that say where from.

    That of the newest study of the same recipe whose arms have several seeds, else `USUAL`.
    """
    name = of.arms[0].recipe.name
    for folder in study.studies():
        kept = records.read(folder / "study.json")
        if [arm["recipe"].get("name") for arm in kept.get("arms", ())][:1] != [name]:
            continue
        if sd := _spread(kept, of.metric):
            return sd, f"If seeds scatter as in study {folder.name} ({sd:.2g} on the logarithm), "
    return USUAL, f"If seeds scatter by {USUAL} on the logarithm, as Fréchet distances often do, "


def _spread(kept: Mapping[str, Any], metric: str) -> float:
    """Of one seed, pooled over the arms of a study; 0 where it cannot be told."""
    done = [t for t in kept.get("trials", ()) if t["state"] == "done"]
    name = metric or next((n for t in done for n in t["figures"] if not results.is_floor(n)), "")
    arms: dict[str, list[float]] = {}
    for trial in done:
        if name in trial["figures"]:
            arms.setdefault(trial["arm"], []).append(trial["figures"][name])
    ratio = statistics.positive(arms.values())
    return statistics.spread([statistics.scaled(values, True) for values in arms.values()]) if ratio else 0.0
