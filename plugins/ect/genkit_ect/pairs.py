"""How ECT pairs levels, and how TCM does."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from genkit.errors import RecipeError
from genkit.kernel.recipe import Recipe
from genkit.kinds import Context, Noise, Pairs, setting

Paired = tuple[Tensor, Tensor, Tensor]
LEAST = 1e-6  # of r, in TCM's published code


@attrs.frozen(kw_only=True)
class Ect:
    """t of the noise law, on no grid, and r = max(0, t - t n(t) / (N(k) - 1)).

    n(t) = 1 + k / (1 + e^(b t)) falls from 1 + k / 2 at t = 0 to 1: small levels take larger steps. N(k) - 1, in the
    paper q^(a + 1) at stage a, is what the curriculum says. t may leave [sigma_min, sigma_max]; where r = 0 the target
    is the clean sample.

    Source: Geng et al. 2024 (arXiv 2406.14548), the mapping function of its continuous-time schedule.
    """

    k: float = setting(8.0, "how much larger steps are at small levels", check=attrs.validators.ge(0))
    b: float = setting(1.0, "how soon that fades as levels rise, per unit of t", check=attrs.validators.ge(0))

    def build(self, context: Context) -> Pairs:
        return self

    def gap(self, t: Tensor, n: int) -> Tensor:
        """t - r, where r may be 0."""
        steps = 1 + self.k * torch.sigmoid(-self.b * t)
        return t * (steps / (n - 1)).clamp(max=1)

    def __call__(self, noise: Noise, n: int, draw: Callable[..., Tensor]) -> Paired:
        t = noise.icdf(draw())
        gap = self.gap(t, n)
        return t.float(), (t - gap).float(), gap.float()


@attrs.frozen(kw_only=True)
class Truncated(Ect):
    """t of the noise law from `low` to sigma_max, a share of it at `low` itself, and r of ECT, at least 1e-6.

    A sample is at `low` with the chance `boundary`, by its own number alone; in the published code exactly that share
    of a batch is there. It is what ties the model above `low` to the one below. The defaults are the pairs of TCM's
    first stage.

    Source: Lee et al. 2024 (arXiv 2410.14895), its two stages, and the published code.
    """

    low: float | None = setting(
        None, "t', the smallest level; sigma_min if not given", check=attrs.validators.optional(attrs.validators.gt(0))
    )
    boundary: float = setting(
        0.0,
        "share of samples at low; TCM's second stage has 0.25",
        check=attrs.validators.and_(attrs.validators.ge(0), attrs.validators.lt(1)),
    )

    def fits(self, recipe: Recipe) -> None:
        """Raises RecipeError where nobody answers below `low`, or another level is given to who does."""
        least, most = recipe.levels.sigma_min, recipe.levels.sigma_max
        if self.low is None or self.low == least:
            return
        if not least < self.low < most:
            raise RecipeError("low", f"{self.low} is not within [levels], {least} to {most}", "choose one between")
        if (answers := getattr(recipe.objective.network, "level", None)) != self.low:
            what = f"nobody is trained below {self.low}, and the network's own level is {answers}"
            raise RecipeError("low", what, f'set network.use = "truncated" and network.level = {self.low}')

    def build(self, context: Context) -> Pairs:
        levels = context.levels
        return Within(rule=self, low=self.low or levels.sigma_min, high=levels.sigma_max)


@attrs.frozen(kw_only=True)
class Within:
    """The pairs of a rule for levels from `low` to `high`."""

    rule: Truncated
    low: float
    high: float

    def __call__(self, noise: Noise, n: int, draw: Callable[..., Tensor]) -> Paired:
        u, share = draw(), self.rule.boundary
        first, last = (noise.cdf(u.new_full((1,), level)) for level in (self.low, self.high))
        inside = first + (last - first) * ((u - share) / (1 - share)).clamp(min=0)
        t = torch.where(u < share, self.low, noise.icdf(inside).clamp(self.low, self.high))
        gap = torch.minimum(self.rule.gap(t, n), t - LEAST)
        return t.float(), (t - gap).float(), gap.float()
