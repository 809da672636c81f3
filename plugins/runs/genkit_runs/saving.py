"""`genkit.save`: a run folder of a loop that was written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genkit.errors import RecipeError
from genkit.kernel.recipe import Recipe
from genkit.kinds import names

if TYPE_CHECKING:
    from genkit.training.state import State


def save(state: State, recipe: Recipe | str | Path, out: str | Path | None = None) -> Path:
    """Write a state as a checkpoint of the run of a recipe, which can then be sampled, evaluated, and gone on with.

    Args:
        recipe: What the state was made of: `genkit.recipe_of(name="mine", dataset=…, objective=…, …)`.
        out: The run folder; by default the recipe's own, in `runs`.

    Returns:
        The run folder.

    Raises:
        RecipeError: The recipe makes other tensors than the state has.
        GenkitError: The folder holds another run, or cannot be written.
    """
    from genkit.kernel.loading import load_recipe
    from genkit.runs import evaluating, lock, planning, store
    from genkit.runs.callbacks import Hooks

    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    planned = planning.plan(recipe, Path(out) if out else None)
    _require(state, planned.state())
    lock.require_ours(planned)
    with store.held(planned.folder), planned.settled() as threads:
        lock.claim(planned)
        lock.write(planned, state, threads, [])
        store.event(planned.folder, event="start", k=state.k, steps=recipe.train.steps)
        evaluating.save(planned, state, Hooks(lambda **what: None))
        store.event(planned.folder, event="end", outcome="preempted", k=state.k, text="saved by hand")
    return planned.folder


def _require(state: State, made: State) -> None:
    """Raises a RecipeError if a recipe's state has tensors of other names or shapes."""
    have, owed = _shapes(state), _shapes(made)
    if different := sorted(name for name in have.keys() | owed.keys() if have.get(name) != owed.get(name)):
        what = f"makes another {names(different[:3])} than the state has"
        raise RecipeError("genkit.save", f"the recipe {what}", "give the recipe of the components that you have built")


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    """But those of the optimizer, which has none before its first step."""
    return {name: tuple(t.shape) for name, t in state.tensors().items() if not name.startswith("optimizer/")}
