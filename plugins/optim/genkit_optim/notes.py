"""What is said of a running average before a training."""

from __future__ import annotations

from collections.abc import Iterator

from genkit.runs.planning import Plan

MOST = 0.1  # share of the first weights in the average that is sampled


def of_plan(planned: Plan) -> Iterator[str]:
    """A line where the average that is sampled hardly moves: of the weights before step 0 it keeps prod_k beta(k)."""
    recipe, kept = planned.recipe, 1.0
    name = recipe.evaluate.weights
    average = {"ema": recipe.ema, **recipe.averages}.get(name)
    if average is None:  # raw weights, or an average that was made afterwards
        return
    for k in range(recipe.train.steps):
        kept *= average.beta(k, recipe.train.batch_size)
        if kept < MOST:
            return
    table = "ema" if name == "ema" else f"averages.{name}"
    what = f"{table}: after {recipe.train.steps:,} steps the average still keeps {kept:.0%} of the weights before them"
    yield f'{what}; shorten its memory in [{table}], or sample the last weights: evaluate.weights = "raw"'
