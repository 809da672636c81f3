"""The small U-Net."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import torch
import torch.nn.functional as F
from attrs.validators import and_, deep_iterable, ge, gt, lt
from torch import Tensor, nn

from genkit.errors import RecipeError
from genkit.kinds import Context, setting
from genkit_unets.augment import Adapting
from genkit_unets.blocks import Attention, Block, Embedding, channels_last, conv, norm, seeded
from genkit_unets.limits import size
from genkit_unets.stage import Stage


@attrs.frozen(kw_only=True)
class UNet:
    """Small 2-D U-Net: residual blocks, concatenated skips, attention if asked.

    Level i has `model_channels * channel_mult[i]` channels and half the resolution of level i - 1, by
    average pooling and nearest-neighbour upsampling; a level that would halve a side of 1 keeps the
    resolution. Each level has `num_blocks` blocks on the way down, whose outputs are concatenated to
    the inputs of as many on the way up; one block stands in the middle. The last layer starts at zero.

    Source: Ronneberger et al. 2015 (arXiv 1505.04597); blocks as Song et al. 2021 (arXiv 2011.13456).
    """

    former: ClassVar[Mapping[str, Any]] = {"times": 1}  # what the context tells now

    model_channels: int = setting(32, "channels of the first level; an even number", check=size(2))
    channel_mult: tuple[int, ...] = setting(
        (1, 2),
        "channels of each level over model_channels; at least one",
        check=and_(deep_iterable(size(1, 10**4)), attrs.validators.min_len(1)),
    )
    num_blocks: int = setting(2, "residual blocks per level, each way", check=size(1, 10**4))
    attn_resolutions: tuple[int, ...] = setting((), "heights, in pixels, at which blocks are followed by attention")
    dropout: float = setting(0.0, "chance that a feature is dropped in a block", check=and_(ge(0), lt(1)))
    fourier_scale: float = setting(0.02, "standard deviation of the frequencies of c_noise (CT: 16)", check=gt(0))
    channel_mult_emb: int = setting(4, "channels of the embedding over model_channels", check=size(1, 10**4))
    double_norm: bool = setting(
        False, "the embedding scales and shifts after the second norm, by vectors of root mean square 1 (sCM)"
    )
    recompute: bool = setting(False, "backward computes blocks anew: less memory, more time", identity=False)

    def build(self, context: Context) -> nn.Module:
        """The network, with weights from `context.seed` alone.

        Raises:
            RecipeError: The sides do not halve as often as `channel_mult` asks, or `attn_resolutions`
                names a height that no level has, or `model_channels` is odd.
        """
        if self.model_channels % 2:
            raise RecipeError("network.model_channels", f"{self.model_channels} is odd", "use an even number")
        sizes = _sizes(context.spec.height, context.spec.width, len(self.channel_mult))
        heights = [height for height, _ in sizes]
        if strange := set(self.attn_resolutions) - set(heights):
            raise RecipeError(
                "network.attn_resolutions",
                f"no level is {min(strange)} pixels high",
                f"the levels are {', '.join(map(str, heights))}",
            )
        return seeded(context, lambda: UNetModule(self, sizes, context))


def _sizes(height: int, width: int, count: int) -> list[tuple[int, int]]:
    """Height and width of each level."""
    sizes = [(height, width)]
    while len(sizes) < count:
        height, width = sizes[-1]
        if min(height, width) == 1:
            sizes.append((height, width))
        elif height % 2 or width % 2:
            raise RecipeError(
                "network.channel_mult",
                f"level {len(sizes) + 1} cannot halve {height}x{width}",
                f"use at most {len(sizes)} numbers",
            )
        else:
            sizes.append((height // 2, width // 2))
    return sizes


class UNetModule(Adapting):
    """The network of `UNet`: (x (B, C, H, W), c_noise (B,) or (B, times), cond) -> (B, out, H, W)."""

    def __init__(self, settings: UNet, sizes: list[tuple[int, int]], context: Context) -> None:
        super().__init__()
        width, emb = settings.model_channels, settings.model_channels * settings.channel_mult_emb
        widths = [width * mult for mult in settings.channel_mult]
        attention = [height in settings.attn_resolutions for height, _ in sizes]
        depth = settings.num_blocks

        def stages(channels: list[int], out: int, level: int) -> nn.ModuleList:
            made = (
                (Block(c, out, emb, settings.dropout, double_norm=settings.double_norm), attention[level])
                for c in channels
            )
            again = settings.recompute
            return nn.ModuleList(Stage(block, Attention(out) if attended else None, again) for block, attended in made)

        self.halves = [small != large for large, small in itertools.pairwise(sizes)]
        self.embedding = Embedding(width, emb, settings.fourier_scale, context)
        self.stem = conv(context.spec.channels, width)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()  # of levels, each a list of stages
        for i, out in enumerate(widths):
            self.down.append(stages([widths[max(i - 1, 0)]] + [out] * (depth - 1), out, i))
        self.middle = stages([widths[-1]], widths[-1], -1)[0]
        for i, out in enumerate(widths):
            self.up.append(stages([widths[min(i + 1, len(widths) - 1)] + out] + [2 * out] * (depth - 1), out, i))
        self.norm, self.out = norm(width), conv(width, context.out_channels or context.spec.channels, gain=0.0)

    def forward(self, x: Tensor, c_noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        emb = self.embedding(c_noise, cond)
        skips = self._down(x, emb)
        x = self.middle(skips[-1], emb)
        for i in reversed(range(len(self.up))):
            for stage in self.up[i]:  # type: ignore[attr-defined]
                x = stage(torch.cat([x, skips.pop()], 1), emb)
            if i and self.halves[i - 1]:
                x = F.interpolate(x, scale_factor=2.0)
        return self.out(F.silu(self.norm(x))).contiguous()

    def features(self, x: Tensor, c_noise: Tensor, cond: Mapping[str, Tensor]) -> list[Tensor]:
        """The last output of each level on the way down, and that of the middle."""
        emb = self.embedding(c_noise, cond)
        skips = self._down(x, emb)
        depth = len(skips) // len(self.down)
        return [*skips[depth - 1 :: depth], self.middle(skips[-1], emb)]

    def _down(self, x: Tensor, emb: Tensor) -> list[Tensor]:
        """The outputs of every block on the way down."""
        x = self.stem(channels_last(x))
        skips = []
        for i, stages in enumerate(self.down):
            if i and self.halves[i - 1]:
                x = F.avg_pool2d(x, 2)
            for stage in stages:  # type: ignore[attr-defined]
                x = stage(x, emb)
                skips.append(x)
        return skips
