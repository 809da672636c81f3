"""The weighting of TCM's second stage."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from genkit import build
from genkit.errors import RecipeError
from genkit.kernel.recipe import Recipe
from genkit.kinds import Context, Weighting, setting, slot


@attrs.frozen(kw_only=True)
class Boundary:
    """Another weighting, by which samples at the boundary t' and samples above it have a mean each.

    With a share p of all samples at t', lambda is w / p there and 1 / (1 - p) above, times the other weighting: the
    mean over a batch is the mean over those above plus w times the mean over those at t'.

    Source: Lee et al. 2024 (arXiv 2410.14895), the loss of its second stage: w = 0.1, p = 0.25.
    """

    level: float = setting(1.0, "t'", check=attrs.validators.gt(0))
    share: float = setting(
        0.25,
        "p, share of samples at t'; as in [pairs]",
        check=attrs.validators.and_(attrs.validators.gt(0), attrs.validators.lt(1)),
    )
    weight: float = setting(0.1, "w, of the mean at t'", check=attrs.validators.gt(0))
    weighting: Any = slot("weighting", "inverse-step", "what weighs samples otherwise")

    def fits(self, recipe: Recipe) -> None:
        """Raises RecipeError where the pairs put another share of samples at another level."""
        pairs = recipe.objective.pairs
        there = (getattr(pairs, "low", None), getattr(pairs, "boundary", None))
        if there != (self.level, self.share):
            what = f"weighs a share of {self.share} at level {self.level}, and [pairs] has {there[1]} at {there[0]}"
            raise RecipeError("share", what, "say the same in pairs.boundary and pairs.low")

    def build(self, context: Context) -> Weighting:
        return BoundaryWeights(
            level=self.level,
            at=self.weight / self.share,
            above=1 / (1 - self.share),
            weighting=build(self.weighting, context),
        )


@attrs.frozen(kw_only=True)
class BoundaryWeights:
    """lambda(t, r), with its two factors."""

    level: float
    at: float
    above: float
    weighting: Weighting

    def __call__(self, t: Tensor, r: Tensor | None = None, gap: Tensor | None = None) -> Tensor:
        factor = torch.where(t <= self.level * (1 + 1e-6), self.at, self.above)  # float32 knows t' to 6e-8
        return factor * self.weighting(t, r, gap)
