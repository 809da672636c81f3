"""Sampling by jumps along a flow map."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import attrs
import torch
from attrs.validators import and_, deep_iterable, ge, gt, in_, le
from torch import Tensor

from genkit.kinds import setting
from genkit.levels import Levels
from genkit_consistency.sampler import Multistep, MultistepSampler


@attrs.frozen(kw_only=True)
class FlowMap(Multistep):
    """Jumps from level to level down to 0, with new noise if asked.

    x = sigma_max z; then for each level s and the next one below, s': x = G(x, s, sqrt(1 - gamma^2) s') + gamma s' z'.
    With gamma = 0 no noise is added; with gamma = 1 each step goes to clean data, and noise is added up to s'.

    Source: Kim et al. 2023 (arXiv 2310.02279), gamma-sampling.
    """

    needs = "flow-map"

    levels: tuple[float, ...] = setting(
        (),
        "levels of the second step and on, descending; more steps than listed take the grid of `spacing`",
        check=deep_iterable(gt(0)),
        identity=False,
    )
    spacing: str = setting(
        "karras",
        "of levels that are not listed: karras, or time, even in sigma / (1 + sigma)",
        check=in_(("karras", "time")),
        identity=False,
    )
    gamma: float = setting(
        0.0,
        "share of a level's noise that is new in each step: 0 none, 1 all",
        check=and_(ge(0), le(1)),
        identity=False,
    )

    def within(self, levels: Levels) -> FlowMapSampler:
        return FlowMapSampler(levels=levels, listed=self.levels, settings=self)


@attrs.frozen(kw_only=True)
class FlowMapSampler(MultistepSampler):
    """The sampler on a range of levels."""

    settings: FlowMap

    def grid(self, steps: int) -> list[float]:
        if self.settings.spacing == "karras":
            return super().grid(steps)
        end = self.levels.sigma_max / (1 + self.levels.sigma_max)
        times = [end * (steps - i) / steps for i in range(1, steps)]
        return [t / (1 - t) for t in times]

    def __call__(
        self,
        denoiser: Callable[..., Tensor],
        draw: Callable[[int], Tensor],
        cond: Mapping[str, Tensor],
        steps: int | Sequence[float],
    ) -> Tensor:
        new = self.settings.gamma
        x = self.levels.sigma_max * draw(0)

        def at(level: float) -> Tensor:
            return torch.full((len(x),), level, device=x.device)

        chain = [self.levels.sigma_max, *self.after_first(steps), 0.0]
        for j, (s, below) in enumerate(itertools.pairwise(chain), 1):
            x = denoiser(x, at(s), cond, to=at((1 - new**2) ** 0.5 * below))
            if new and below:
                x = x + new * below * draw(j)
        return x
