"""alpha-Flow: from flow matching over whole ways to MeanFlow."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import attrs
import torch
from attrs.validators import and_, ge, gt, le, lt, optional
from torch import Tensor

from genkit.denoiser import Loss
from genkit.errors import RecipeError
from genkit.keys import Key
from genkit.kinds import Context, setting, slot
from genkit.levels import expand
from genkit_flow.meanflow import Cond, MeanFlow, MeanFlowProgram, order_of, ratio_of


@attrs.frozen(kw_only=True)
class AlphaFlow(MeanFlow):
    """MeanFlow reached by steps: u(z, r, t) towards alpha v + (1 - alpha) u(z - alpha (t - r) v, r, m).

    m = t - alpha (t - r). At alpha = 1 it is flow matching with a second time; its limit is MeanFlow, whose target is
    taken at alpha = 0. Until then no derivative is needed. alpha falls as training goes on, by

        alpha(k) = 1 / (1 + e^(gamma (p - 1/2))),  p = (k / K - start) / (end - start),

    made 1 above 1 - least and 0 below `least`. Where r < t the loss has the weight alpha.

    Source: Zhang et al. 2025 (arXiv 2510.20771) and the published code (github.com/snap-research/alphaflow), whose
    settings of a DiT-B/2 on ImageNet are the defaults; it can also clip targets to [-4, 4], in the units of latents.
    """

    predicts: ClassVar[str] = "flow-map"

    noise: Any = slot("noise", "lognormal", "the law of t, as sigma (p_mean -0.4, p_std 1)", p_mean=-0.4, p_std=1.0)
    noise_r: Any = slot("noise", "lognormal", "the law of r, as sigma (p_mean -0.4, p_std 1)", p_mean=-0.4, p_std=1.0)
    loss: Any = slot("loss", "adaptive", "the metric of velocities (p 1, q mean)", p=1.0, q="mean")
    order: str = order_of("swap")
    ratio: float = ratio_of(0.5)
    start: float = setting(0.0, "share of the training at which alpha begins to fall", check=and_(ge(0), lt(1)))
    end: float = setting(1.0, "share of the training at which it has fallen", check=and_(gt(0), le(1)))
    gamma: float = setting(25.0, "how suddenly alpha falls in between", check=gt(0))
    least: float = setting(0.005, "alphas below are 0, those above 1 - least are 1", check=and_(ge(0), lt(0.5)))
    clip: float | None = setting(None, "greatest number of a target; none: no limit", check=optional(gt(0)))

    def __attrs_post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError(f"start must be below end: {self.start} >= {self.end}")

    def alpha(self, k: int, total_steps: int) -> float:
        """alpha at step k."""
        done = (k / total_steps - self.start) / (self.end - self.start)
        value = (1 - math.tanh(self.gamma * (done - 0.5) / 2)) / 2
        return 0.0 if value < self.least else 1.0 if value > 1 - self.least else value

    def build(self, context: Context) -> AlphaFlowProgram:
        """The program.

        Raises:
            RecipeError: The context does not tell how long training is to last, which alpha needs.
        """
        if context.total_steps < 1:
            raise RecipeError(
                "context.total_steps", "is not told, and alpha depends on it", "give Context(total_steps=)"
            )
        return AlphaFlowProgram(self, context)


class AlphaFlowProgram(MeanFlowProgram):
    """The student; for alpha > 0 it is called twice, plainly."""

    def compared(self, z: Tensor, t: Tensor, r: Tensor, v: Tensor, cond: Cond, k: int, key: Key) -> Loss:
        """u beside its value after a part alpha of the way along v; where r = t beside v."""
        alpha = self.settings.alpha(k, self.context.total_steps)
        if alpha == 0:
            loss = super().compared(z, t, r, v, cond, k, key)
            return Loss(loss.values, {**loss.figures, "alpha": alpha})
        with key.reseeded(z.device):
            u = self.outputs(z, t, r, cond)
        with torch.no_grad(), key.reseeded(z.device):
            target = self.target(alpha, z, t, r, v, cond)
        weight = torch.where(t > r, alpha, 1.0)
        figures = {"error": (u.detach() - target).square().mean(), "alpha": alpha}
        return Loss(weight * self.loss(u, target), figures)

    def target(self, alpha: float, z: Tensor, t: Tensor, r: Tensor, v: Tensor, cond: Cond) -> Tensor:
        """alpha v + (1 - alpha) u(z - alpha (t - r) v, r, m), clipped; v where r = t."""
        part = alpha * (t - r)
        rest = self.outputs(z - expand(part, v) * v, t - part, r, cond)
        limit = math.inf if self.settings.clip is None else self.settings.clip
        return torch.where(expand(t > r, v), (alpha * v + (1 - alpha) * rest).clamp(-limit, limit), v)
