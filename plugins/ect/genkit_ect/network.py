"""The model of TCM's second stage: frozen weights below a level, trained ones from it on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from genkit import build
from genkit.data import weights
from genkit.errors import RecipeError
from genkit.kernel.recipe import Recipe
from genkit.keys import default_generator
from genkit.kinds import Context, Source, setting, slot, source
from genkit.levels import expand


@attrs.frozen(kw_only=True)
class Truncated:
    """A trained network from a level t' on, below it the frozen one of a first stage; both start there.

    It is sampled as it is trained: with t' = 1 a second step at level 0.821 asks the first stage.

    Source: Lee et al. 2024 (arXiv 2410.14895), the parameterization of its second stage.
    """

    level: float = setting(1.0, "t', where the trained network begins", check=attrs.validators.gt(0))
    network: Any = slot("network", "unet", "of both; that of the first stage")
    parameterization: Any = slot("parameterization", "edm", "of both; that of the objective")
    model: Source = source("the first stage: a run, recipe:NAME, or a weights file")

    def fits(self, recipe: Recipe) -> None:
        """Raises RecipeError where the objective has other scalings, by which t' would be told wrongly."""
        if getattr(recipe.objective, "parameterization", None) != self.parameterization:
            what = "differs from the objective's [parameterization]"
            raise RecipeError("parameterization", what, "say the same in both")

    def build(self, context: Context) -> TwoStages:
        """Both networks, with the weights of the first stage where training is meant; else they wait for a checkpoint.

        Raises:
            GenkitError: No first stage is named, or it has other scalings, or its weights do not fit.
        """
        scalings = build(self.parameterization, context)
        level = torch.tensor([self.level * (1 - 1e-6)])  # float32 knows t' to 6e-8
        made = TwoStages(build(self.network, context), build(self.network, context), scalings(level).c_noise.item())
        if context.training:
            state = self._first_stage(context, scalings)
            state, _ = getattr(made.below, "adapted", lambda state: (state, ()))(state)
            weights.fit(made.below, state, self.model.origin)
            for network in (made.below, made.above):
                network.load_state_dict(state)
        return made

    def _first_stage(self, context: Context, scalings: Any) -> Mapping[str, Tensor]:
        origin = self.model.origin
        if not origin:
            raise RecipeError("network.model", "names no first stage", 'set network.model.from, such as "recipe:NAME"')
        if Path(origin).suffix == ".safetensors":
            return weights.load(Path(origin))
        model = context.load(self.model)
        if model.parameterization != scalings:
            what = f"{origin} has the scalings {model.parameterization}, and here they are {scalings}"
            raise RecipeError("network.model", what, "train both stages with one [parameterization] and one [levels]")
        return model.network.state_dict()


class TwoStages(nn.Module):
    """`above` where c_noise is at least `switch`, else `below`, whose weights are frozen; with dropout, by one mask.

    Which of them a batch needs is asked of the device once per call, which costs less than a network that nobody needs.
    """

    def __init__(self, below: nn.Module, above: nn.Module, switch: float) -> None:
        super().__init__()
        self.below, self.above, self.switch = below.requires_grad_(False), above, switch

    def forward(self, x: Tensor, c_noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        high = c_noise.reshape(len(x), -1)[:, 0] >= self.switch
        if high.all() or not high.any():
            one = self.above if high.all() else self.below
            return one(x, c_noise, cond)  # type: ignore[no-any-return]
        generator = default_generator(x.device)
        before = generator.get_state()
        answer = self.below(x, c_noise, cond)
        generator.set_state(before)
        return torch.where(expand(high, x), self.above(x, c_noise, cond), answer)
