"""Guidance without a classifier: a model that knows "no class" is led further towards a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
from attrs.validators import ge
from torch import Tensor

from genkit import build
from genkit.errors import RecipeError
from genkit.kernel.recipe import Recipe
from genkit.kinds import Context, Sampler, setting, slot


@attrs.frozen(kw_only=True)
class Guided:
    """Guidance around any sampler of a model with classes: D(x; null) + w (D(x; label) - D(x; null)).

    The null class must have been trained, by `objective.label_drop`. Each network call becomes two, unless w is 1. Of a
    model of two times, whose answer is x + (to - sigma) u, this guides the mean velocity u.

    Source: Ho & Salimans 2022 (arXiv 2207.12598), eq. 6, with scale = 1 + w.
    """

    sampler: Any = slot("sampler", "heun", "how the guided model is sampled", identity=False)
    scale: float = setting(1.5, "w; 1: the model as it is, 0: the null class", check=ge(0), identity=False)

    @property
    def needs(self) -> str:
        """What the sampler within needs."""
        needs: str = self.sampler.needs
        return needs

    def fits(self, recipe: Recipe) -> None:
        """Raises RecipeError where a recipe trains no null class."""
        if self.scale == 1:
            return
        if getattr(recipe.dataset, "labels", True) is False:
            raise RecipeError("scale", "guidance needs classes, and the data have none", "set dataset.labels = true")
        if getattr(recipe.objective, "label_drop", 1.0) == 0:
            what = "guidance needs a null class, and the model is trained with every label"
            raise RecipeError("scale", what, "set objective.label_drop = 0.1, or leave it at 1")

    def build(self, context: Context) -> Sampler:
        """The sampler.

        Raises:
            RecipeError: The data have no classes.
        """
        inner: Sampler = build(self.sampler, context)
        if self.scale == 1:
            return inner
        if not context.spec.classes:
            what = "guidance needs classes, and the data have none"
            raise RecipeError("sampler.scale", what, "train with dataset.labels = true")
        return GuidedSampler(inner=inner, scale=self.scale, null=context.spec.classes)


@attrs.frozen(kw_only=True)
class GuidedSampler:
    """A sampler that is shown the guided model."""

    inner: Sampler
    scale: float
    null: int

    def nfe(self, steps: int | Sequence[float]) -> int:
        return 2 * self.inner.nfe(steps)

    def __call__(
        self,
        denoiser: Callable[..., Tensor],
        draw: Callable[[int], Tensor],
        cond: Mapping[str, Tensor],
        steps: int | Sequence[float],
    ) -> Tensor:
        return self.inner(guided(denoiser, self.scale, self.null), draw, cond, steps)


def guided(denoiser: Callable[..., Tensor], scale: float, null: int) -> Callable[..., Tensor]:
    """D(x; null) + scale (D(x; label) - D(x; null)), a denoiser; `null` is the label that means "none".

    It takes `to`, too, if the denoiser does.

    Source: Ho & Salimans 2022 (arXiv 2207.12598), eq. 6, with scale = 1 + w.
    """

    def call(x: Tensor, sigma: Tensor, cond: Mapping[str, Tensor] | None = None, to: Tensor | None = None) -> Tensor:
        given, second = cond or {}, () if to is None else (to,)
        none = {**given, "label": torch.full((len(x),), null, device=x.device)}
        return torch.lerp(denoiser(x, sigma, none, *second), denoiser(x, sigma, given, *second), scale)

    return call
