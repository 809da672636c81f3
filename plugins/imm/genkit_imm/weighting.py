"""The weighting of IMM."""

from __future__ import annotations

import attrs
import torch
from attrs.validators import ge
from torch import Tensor

from genkit.kinds import Context, setting
from genkit_imm.times import time_of


@attrs.frozen(kw_only=True)
class ImmWeights:
    """lambda(t), t the time sigma / (sigma + sigma_data), l = 2 ln((1 - t) / t), -dl/dt = 2 / (t (1 - t))."""

    sigma_data: float
    a: float
    b: float

    def __call__(self, t: Tensor, r: Tensor | None = None, gap: Tensor | None = None) -> Tensor:
        t = time_of(t, self.sigma_data)
        rest = 1 - t
        log_snr = 2 * (rest / t).log()
        return torch.sigmoid(self.b - log_snr) / (t * rest) * rest**self.a / (t.square() + rest.square())


@attrs.frozen(kw_only=True)
class Imm:
    """lambda = sigmoid(b - l) (-dl/dt) (1 - t)^a / (t^2 + (1 - t)^2) / 2, l the log of SNR.

    Source: Zhou et al. 2025 (arXiv 2503.07565), its weighting function w(s, t); a and b for CIFAR-10.
    """

    a: float = setting(1.0, "power of 1 - t (ImageNet: 2)", check=ge(0))
    b: float = setting(5.0, "log of SNR below which levels count in full (ImageNet: 4)")

    def build(self, context: Context) -> ImmWeights:
        return ImmWeights(sigma_data=context.spec.sigma_data, a=self.a, b=self.b)
