"""Improved MeanFlow: a regression whose target knows nothing of the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn

from genkit import build
from genkit.denoiser import Loss
from genkit.keys import Key
from genkit.kinds import Context, setting, slot
from genkit.levels import expand
from genkit_flow.meanflow import Cond, MeanFlow, MeanFlowProgram, average_velocity, order_of, ratio_of


@attrs.frozen(kw_only=True)
class ImprovedMeanFlow(MeanFlow):
    """MeanFlow as a regression on v: V = u(z, r, t) + (t - r) du/dt towards v = eps - x0.

    du/dt, without gradient, is along the velocity that the network itself predicts, so V is a function of z alone, and
    the target knows nothing of the network. The network's velocity is that of a second head, which learns v beside and
    is not asked in sampling, or else u(z, t, t).

    With labels the target is guided as in MeanFlow; the paper writes v + (1 - 1 / w) (v(z | label) - v(z | none)) for
    the scale w, which is omega = 1, kappa = 1 - 1 / w. Its networks are told w and the interval, which are fixed here.

    Source: Geng et al. 2025 (arXiv 2512.02012) and the published code (github.com/Lyy-iiis/imeanflow), whose settings
    on ImageNet are the defaults.
    """

    predicts: ClassVar[str] = "flow-map"

    noise: Any = slot("noise", "lognormal", "the law of t, as sigma (p_mean -0.4, p_std 1)", p_mean=-0.4, p_std=1.0)
    noise_r: Any = slot("noise", "lognormal", "the law of r, as sigma (p_mean -0.4, p_std 1)", p_mean=-0.4, p_std=1.0)
    loss: Any = slot("loss", "adaptive", "the metric of velocities (p 1, eps 0.01)", p=1.0, eps=0.01)
    order: str = order_of("swap")
    ratio: float = ratio_of(0.5)
    head: bool = setting(True, "a second head predicts v; else it is u(z, t, t)")

    def build(self, context: Context) -> ImprovedMeanFlowProgram:
        return ImprovedMeanFlowProgram(self, context)


class FirstHalf(nn.Module):
    """The first half of the channels of what a network of two heads gives."""

    def __init__(self, heads: nn.Module) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, x: Tensor, c_noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return self.heads(x, c_noise, cond).chunk(2, 1)[0]  # type: ignore[no-any-return]


class ImprovedMeanFlowProgram(MeanFlowProgram):
    """The student, and within its network the second head where there is one."""

    def network(self) -> nn.Module:
        if not self.settings.head:
            return super().network()
        wide = attrs.evolve(self.context, out_channels=2 * self.context.spec.channels)
        return FirstHalf(build(self.settings.network, wide))

    def outputs(self, z: Tensor, t: Tensor, r: Tensor, cond: Cond) -> Tensor:
        """u, and the second head's v beside."""
        network = self.student.network
        return average_velocity(network.heads if isinstance(network, FirstHalf) else network, z, t, r, cond)

    def velocity(self, z: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return self.outputs(z, t, t, cond)[:, -z.shape[1] :]

    def compared(self, z: Tensor, t: Tensor, r: Tensor, v: Tensor, cond: Cond, k: int, key: Key) -> Loss:
        """V beside v, and the second head beside v."""
        with torch.no_grad(), key.reseeded(z.device):
            direction = self.velocity(z, t, cond)
        out, slope = self.along(direction, z, t, r, cond, key)
        u, heads = out[:, : z.shape[1]], out[:, z.shape[1] :]
        compound = u + expand(t - r, v) * slope[:, : z.shape[1]].detach()
        values = self.loss(compound, v)
        if self.settings.head:
            values = values + self.loss(heads, v)
        return Loss(values, {"error": (compound.detach() - v).square().mean()})
