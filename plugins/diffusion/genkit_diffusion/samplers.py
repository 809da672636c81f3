"""Sampling a diffusion model by its ODE, and with churn by an SDE."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import attrs
import torch
from attrs.validators import ge, gt, optional
from torch import Tensor

from genkit.errors import RecipeError
from genkit.kernel.recipe import Recipe
from genkit.kinds import Context, setting
from genkit.levels import Levels
from genkit_diffusion.solvers import euler_step, heun_step


@attrs.frozen(kw_only=True)
class Heun:
    """Heun's steps down the Karras grid, with churn if asked.

    n steps take 2n - 1 network calls: the last step, to zero, is Euler's. Before a step from t in [S_min, S_max]
    noise is added up to the level (1 + gamma) t, gamma = min(S_churn / n, sqrt(2) - 1).

    Source: Karras et al. 2022 (arXiv 2206.00364), algorithm 2; table 5 has settings of churn.
    """

    needs = "denoised"

    S_churn: float = setting(0.0, "noise added over all steps; 0 for the ODE", check=ge(0), identity=False)
    S_min: float = setting(0.0, "least level that noise is added at", check=ge(0), identity=False)
    S_max: float | None = setting(
        None, "greatest level that noise is added at; none: no limit", check=optional(ge(0)), identity=False
    )
    S_noise: float = setting(1.0, "standard deviation of the noise that is added", check=gt(0), identity=False)

    def fits(self, recipe: Recipe) -> None:
        """Raises RecipeError where noise is to be added, and there is no level to add it at."""
        least, most = max(self.S_min, recipe.levels.sigma_min), recipe.levels.sigma_max
        most = most if self.S_max is None else min(most, self.S_max)
        if self.S_churn and least > most:
            raise RecipeError(
                "S_min", f"no level lies from {least} to {most}", "let S_min and S_max reach into [levels]"
            )

    def build(self, context: Context) -> Descent:
        return Descent(levels=context.levels, second_order=True, churn=self)


@attrs.frozen(kw_only=True)
class Euler:
    """Euler's steps down the Karras grid.

    n steps take n network calls.

    Source: Karras et al. 2022 (arXiv 2206.00364), algorithm 1 without its correction.
    """

    needs = "denoised"

    def build(self, context: Context) -> Descent:
        return Descent(levels=context.levels, second_order=False, churn=Heun())


@attrs.frozen(kw_only=True)
class Descent:
    """The sampler on a range of levels. The state is float64, the network is called in the dtype of the draws."""

    levels: Levels
    second_order: bool
    churn: Heun

    def chain(self, steps: int | Sequence[float]) -> list[float]:
        """The levels from sigma_max to zero: the Karras grid, or those after the first, and then 0.

        Raises:
            RecipeError: They do not fall, or leave the range of levels, or there are no steps at all.
        """
        top, least = self.levels.sigma_max, self.levels.sigma_min
        if isinstance(steps, int):
            if not 1 <= steps <= 10_000:
                raise RecipeError("steps", f"{steps} steps make no sample", "take 1 to 10000")
            return [*(self.levels.sigmas(steps).flip(0).tolist() if steps > 1 else [top]), 0.0]
        found = [float(level) for level in steps]
        if not all(a > b >= least for a, b in itertools.pairwise([top, *found])):
            what = f"{found} do not fall from {top} to no less than {least}"
            raise RecipeError("levels", what, "list them descending, within [levels]")
        return [top, *found, 0.0]

    def nfe(self, steps: int | Sequence[float]) -> int:
        count = len(self.chain(steps)) - 1
        return 2 * count - 1 if self.second_order else count

    def raised(self, t: float, count: int) -> float:
        """(1 + gamma) t, the level that noise is added up to before one of `count` steps, from t."""
        s = self.churn
        within = s.S_min <= t <= (math.inf if s.S_max is None else s.S_max)
        return t * (1 + min(s.S_churn / count, math.sqrt(2) - 1)) if within else t

    def __call__(
        self,
        denoiser: Callable[..., Tensor],
        draw: Callable[[int], Tensor],
        cond: Mapping[str, Tensor],
        steps: int | Sequence[float],
    ) -> Tensor:
        chain, z = self.chain(steps), draw(0)
        wide = torch.float32 if z.device.type == "mps" else torch.float64  # there is no float64 on mps

        def model(x: Tensor, t: Tensor, cond: Mapping[str, Tensor] | None) -> Tensor:
            return denoiser(x.to(z.dtype), t.to(z.dtype), cond).to(wide)

        def at(level: float) -> Tensor:
            return torch.full((len(z),), level, dtype=wide, device=z.device)

        x = chain[0] * z.to(wide)
        for i, (t, r) in enumerate(itertools.pairwise(chain), 1):
            hat = self.raised(t, len(chain) - 1)
            if hat > t:
                x = x + self.churn.S_noise * math.sqrt(hat**2 - t**2) * draw(i).to(wide)
            step = heun_step if self.second_order and r > 0 else euler_step
            x = step(model, x, at(hat), at(r), cond)
        return x.to(z.dtype)
