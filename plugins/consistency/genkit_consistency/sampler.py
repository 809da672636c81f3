"""Sampling a consistency model in one step and more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs
import torch
from torch import Tensor

from genkit.errors import RecipeError
from genkit.kernel.recipe import Recipe
from genkit.kinds import Context, setting
from genkit.levels import Levels


@attrs.frozen(kw_only=True)
class Multistep:
    """One step from noise to data, then noise again and a step each.

    x = f(sigma_max z, sigma_max); then for each further level s: x = f(x + sqrt(s^2 - sigma_min^2) z', s).

    Source: Song et al. 2023 (arXiv 2303.01469), algorithm 1; the level 0.821 of two steps is iCT's for CIFAR-10.
    """

    needs = "consistency"

    levels: tuple[float, ...] = setting(
        (0.821,),
        "levels of the second step and on, descending; more steps than listed take the Karras grid",
        check=attrs.validators.deep_iterable(attrs.validators.gt(0)),
        identity=False,
    )

    def fits(self, recipe: Recipe) -> None:
        """Raises RecipeError where levels do not fall within [levels]; default ones only where steps ask for them."""
        listed = attrs.fields(type(self)).levels.default != self.levels
        for steps in {*recipe.evaluate.steps, 1 + listed * len(self.levels)}:
            self.within(recipe.levels).after_first(steps)

    def build(self, context: Context) -> MultistepSampler:
        return self.within(context.levels)

    def within(self, levels: Levels) -> MultistepSampler:
        """The sampler on a range of levels."""
        return MultistepSampler(levels=levels, listed=self.levels)


@attrs.frozen(kw_only=True)
class MultistepSampler:
    """The sampler on a range of levels."""

    levels: Levels
    listed: tuple[float, ...]

    def after_first(self, steps: int | Sequence[float]) -> list[float]:
        """The levels of the second step and on.

        Raises:
            RecipeError: They do not fall, or leave the range of levels, or there are no steps at all.
        """
        if isinstance(steps, int) and not 1 <= steps <= 10_000:
            raise RecipeError("steps", f"{steps} steps make no sample", "take 1 to 10000")
        if not isinstance(steps, int):
            found = list(steps)
        elif steps - 1 <= len(self.listed):
            found = list(self.listed[: steps - 1])
        else:
            found = self.grid(steps)
        chain = [self.levels.sigma_max, *found]
        if not (all(b < a for a, b in zip(chain, found, strict=False)) and chain[-1] > self.levels.sigma_min):  # or NaN
            raise RecipeError(
                "levels",
                f"{found} do not fall from {self.levels.sigma_max} to above {self.levels.sigma_min}",
                "list them descending, within [levels]",
            )
        return found

    def grid(self, steps: int) -> list[float]:
        """The levels after the first of so many steps, where they are not listed: those of the Karras grid."""
        return self.levels.sigmas(steps + 1).flip(0)[1:-1].tolist()

    def nfe(self, steps: int | Sequence[float]) -> int:
        return 1 + len(self.after_first(steps))

    def __call__(
        self,
        denoiser: Callable[..., Tensor],
        draw: Callable[[int], Tensor],
        cond: Mapping[str, Tensor],
        steps: int | Sequence[float],
    ) -> Tensor:
        x = self.levels.sigma_max * draw(0)
        x = denoiser(x, torch.full((len(x),), self.levels.sigma_max, device=x.device), cond)
        for j, sigma in enumerate(self.after_first(steps), 1):
            x = x + (sigma**2 - self.levels.sigma_min**2) ** 0.5 * draw(j)
            x = denoiser(x, torch.full((len(x),), sigma, device=x.device), cond)
        return x
