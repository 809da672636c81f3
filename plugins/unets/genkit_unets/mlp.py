"""The MLP for toys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import torch.nn.functional as F
from attrs.validators import gt
from torch import Tensor, nn

from genkit.kinds import Context, setting
from genkit_unets.augment import Adapting
from genkit_unets.blocks import Embedding, lecun, seeded
from genkit_unets.limits import size


@attrs.frozen(kw_only=True)
class Mlp:
    """Residual MLP on the flattened sample, for 1x1 toys.

    h = W x + U embedding, then `depth` times h + V silu(h) / sqrt(depth), then a last layer that starts
    at zero. W and U start with unit gain each: in one matrix the few numbers of x would drown among those
    of the embedding. It knows nothing of neighbouring pixels.
    """

    former: ClassVar[Mapping[str, Any]] = {"times": 1}  # what the context tells now

    width: int = setting(128, "hidden features; an even number", check=size(2))
    depth: int = setting(3, "hidden layers", check=size(1, 10**4))
    fourier_scale: float = setting(0.2, "standard deviation of the frequencies of c_noise", check=gt(0))

    def build(self, context: Context) -> nn.Module:
        return seeded(context, lambda: MlpModule(self, context))


class MlpModule(Adapting):
    """The network of `Mlp`: (x (B, C, H, W), c_noise (B,) or (B, times), cond) -> (B, out, H, W)."""

    def __init__(self, settings: Mlp, context: Context) -> None:
        super().__init__()
        width, size = settings.width, context.spec.size
        self.embedding = Embedding(width, width, settings.fourier_scale, context)
        self.first, self.second = lecun(nn.Linear(size, width)), lecun(nn.Linear(width, width))
        self.hidden = nn.ModuleList(lecun(nn.Linear(width, width)) for _ in range(settings.depth))
        self.shape = (context.out_channels or context.spec.channels, *context.spec.shape[1:])
        self.last = lecun(nn.Linear(width, math.prod(self.shape)), gain=0.0)

    def forward(self, x: Tensor, c_noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return self.last(F.silu(self.features(x, c_noise, cond)[-1].flatten(1))).unflatten(1, self.shape)

    def features(self, x: Tensor, c_noise: Tensor, cond: Mapping[str, Tensor]) -> list[Tensor]:
        """What each layer adds up to, (B, width, 1, 1)."""
        h = self.first(x.flatten(1)) + self.second(self.embedding(c_noise, cond).to(x.dtype))
        maps = []
        for layer in self.hidden:
            h = h + layer(F.silu(h)) / math.sqrt(len(self.hidden))
            maps.append(h[:, :, None, None])
        return maps
