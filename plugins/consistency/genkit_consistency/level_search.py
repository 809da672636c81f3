"""What `genkit search-steps` does: figures of a run at levels that are tried."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import attrs

from genkit import build
from genkit.denoiser import Denoiser
from genkit.errors import RecipeError
from genkit.evaluation import measuring
from genkit.kernel.recipe import Recipe
from genkit.kinds import names
from genkit.runs import models, planning
from genkit_consistency.sampler import Multistep
from genkit_consistency.search import Levels, search

Tell = Callable[[Levels, float], None]


@attrs.frozen(kw_only=True, eq=False)
class LevelSearch:
    """A run, and the figure that its sampler's levels are judged by.

    Attributes:
        table, figure: Of the metric, such as "fd" and "fd"; an empty figure is the metric's first.
    """

    planned: planning.Plan
    denoiser: Denoiser
    recipe: Recipe
    table: str
    figure: str
    tell: Tell

    @classmethod
    def of(
        cls, run: str, metric: str | None, samples: int, weights: str, device: str | None, tell: Tell
    ) -> LevelSearch:
        """Raises RecipeError for a run that is no consistency model, or has no such metric."""
        folder, recipe = models.reopen(run)
        measuring.require_metrics(recipe.metrics)
        if not isinstance(recipe.objective.sampler, Multistep):
            raise RecipeError(run, "is not sampled by steps whose levels could be searched", "its sampler is another")
        table, _, figure = (metric or next(iter(recipe.metrics))).partition(".")
        if table not in recipe.metrics:
            raise RecipeError("--metric", f"the recipe has no metric {table!r}", f"it has {names(recipe.metrics)}")
        recipe = attrs.evolve(
            recipe,
            metrics={table: recipe.metrics[table]},
            evaluate=attrs.evolve(recipe.evaluate, samples=samples, seeds=1, weights=weights),
        )
        planned = planning.plan(recipe, folder, device)
        denoiser = models.load(folder, weights, device)
        return cls(planned=planned, denoiser=denoiser, recipe=recipe, table=table, figure=figure, tell=tell)

    def value(self, levels: Levels, seed: int) -> tuple[str, float]:
        """The figure's name, and its value for samples by these levels."""
        sampler = attrs.evolve(self.recipe.objective.sampler, levels=levels)
        self.denoiser.sampler = build(sampler, self.planned.context)
        steps = len(levels) + 1
        recipe = attrs.evolve(self.recipe, evaluate=attrs.evolve(self.recipe.evaluate, steps=(steps,), seed=seed))
        found = measuring.of_recipe(self.denoiser, self.planned.data, recipe, self.planned.context)
        figures = found["steps"][str(steps)]["figures"]
        name = f"{self.table}.{self.figure}" if self.figure else next(iter(figures))
        if name not in figures:
            raise RecipeError("--metric", f"there is no figure {name!r}", f"there are {names(figures)}")
        return name, figures[name]

    def search(self, steps: int, points: int, seed: int, seeds: int) -> dict[str, Any]:
        """The best levels, their figure and its standard deviation over seeds, and every probe."""
        sign = -1 if self.recipe.metrics[self.table].better == "higher" else 1
        probes: dict[Levels, float] = {}
        name = ""

        def judged(levels: Levels) -> float:
            nonlocal name
            name, value = self.value(levels, seed)
            probes[levels] = value
            self.tell(levels, value)
            return sign * value

        candidates = self.recipe.levels.sigmas(points).flip(0)[1:-1].tolist()
        levels = search(judged, candidates, steps)
        others = [self.value(levels, seed + i)[1] for i in range(1, seeds)]
        return {
            "metric": name,
            "levels": levels,
            "figure": probes[levels],
            "noise": statistics.stdev([probes[levels], *others]),
            "probes": sorted(probes.items(), reverse=True),
        }
