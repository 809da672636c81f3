"""What is said where a run begins while a shorter one of the same recipe is there: that it is not gone on with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genkit.data import records
from genkit.errors import GenkitError
from genkit.kernel.recipe import Train
from genkit.kinds import fields
from genkit.runs import store
from genkit.runs.planning import Plan
from genkit.training import checkpoint
from genkit_runs import housekeeping

DECIDING = {name for name, field in fields(Train) if field.metadata["identity"]} - {"steps"}


def told(planned: Plan) -> list[str]:
    """A line on the longest of the shorter runs; none for trials of studies, nor where the run itself has begun."""
    folder, recipe = planned.folder, planned.recipe
    if records.read(folder / "lock.json").get("trial") or checkpoint.present(folder / "checkpoints"):
        return []
    own = _alike(recipe.tree())
    named = (s for s in store.runs() if s.name == recipe.name and 0 < s.k < recipe.train.steps and s.folder != folder)
    found = next((s for s in sorted(named, key=lambda s: -s.k) if _of(s) == own), None)
    if found is None:
        return []
    what = f"{found.folder.name} is the same recipe after {found.k:,} steps; one of another length is another run"
    return [f"{what}, and begins at step 0: init.from={found.folder.name} would begin with its weights"]


def _of(run: store.Summary) -> housekeeping.Flat:
    try:
        return _alike(store.recipe_file(run.folder))
    except GenkitError:
        return {}


def _alike(tree: Mapping[str, Any]) -> housekeeping.Flat:
    """All of a recipe that decides about weights, but for its length."""
    kept = {name: part for name, part in tree.items() if name not in housekeeping.ASIDE}
    train = {name: value for name, value in tree.get("train", {}).items() if name in DECIDING}
    return housekeeping.flat({**kept, "train": train})
