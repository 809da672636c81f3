"""The network of closed forms."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch
from torch import Tensor, nn

from genkit.kinds import Context, setting


@attrs.frozen(kw_only=True)
class Constant:
    """F = theta: one learnt sample, the same answer to every input.

    With the parameterization `point` it is the model of section 3.2 of iCT, which can be solved on paper.

    Source: Song & Dhariwal 2023 (arXiv 2310.14189), section 3.2.
    """

    start: float = setting(0.0, "each number of theta at the start")

    def build(self, context: Context) -> nn.Module:
        spec = context.spec
        shape = (context.out_channels or spec.channels, spec.height, spec.width)
        return ConstantModule(torch.full(shape, self.start))


class ConstantModule(nn.Module):
    """The network of `Constant`: (x (B, C, H, W), c_noise, cond) -> (B, out, H, W)."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta)

    def forward(self, x: Tensor, c_noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return self.theta.expand(len(x), *self.theta.shape)
