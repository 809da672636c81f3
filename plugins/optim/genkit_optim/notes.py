"""What is said of a running average before a training."""

from __future__ import annotations

from collections.abc import Iterator

from genkit.runs.planning import Plan

MOST = 0.1  # share of the first weights in the average that is sampled


def of_plan(planned: Plan) -> Iterator[str]:
    """A line where the average hardly moves: of the weights before step 0 it keeps prod_k beta(k)."""
    recipe, kept = planned.recipe, 1.0
    for k in range(recipe.train.steps):
        kept *= recipe.ema.beta(k, recipe.train.batch_size)
        if kept < MOST:
            return
    if recipe.evaluate.weights == "ema":
        what = f"ema: after {recipe.train.steps:,} steps the average still keeps {kept:.0%} of the weights before them"
        yield f'{what}; shorten its memory in [ema], or sample the last weights: evaluate.weights = "raw"'
