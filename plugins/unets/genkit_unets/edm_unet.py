"""The U-Net of EDM's three families, assembled from blocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genkit.keys import Key
from genkit.kinds import Context
from genkit_unets.augment import Adapting
from genkit_unets.blocks import Attention, Block, Fourier, add, channels_last, conv, norm
from genkit_unets.edm_settings import EdmSettings
from genkit_unets.embeddings import Conditioning, Positional
from genkit_unets.resample import Resample, Shrink
from genkit_unets.stage import Stage


class Place(NamedTuple):
    """Where a block stands: `kind` is "down", "block", "in" or "up", `number` counts blocks of its level."""

    level: int
    kind: str
    number: int
    channels: int
    out: int
    attention: bool


def encoder(settings: EdmSettings, heights: list[int]) -> Iterator[Place]:
    """The blocks on the way down, in order; the stem before them is not among them."""
    channels = stem(settings)
    for level, mult in enumerate(settings.channel_mult):
        if level:
            yield Place(level, "down", 0, channels, channels, False)
        for i in range(settings.num_blocks):
            out = settings.model_channels * mult
            yield Place(level, "block", i, channels, out, heights[level] in settings.attn_resolutions)
            channels = out


def decoder(settings: EdmSettings, heights: list[int]) -> Iterator[Place]:
    """The blocks in the middle and on the way up, in order; those of kind "block" each take one skip."""
    skips = [stem(settings), *(place.out for place in encoder(settings, heights))]
    channels, last = skips[-1], settings.num_blocks
    for level, mult in reversed(list(enumerate(settings.channel_mult))):
        if level == len(settings.channel_mult) - 1:
            yield Place(level, "in", 0, channels, channels, True)
            yield Place(level, "in", 1, channels, channels, False)
        else:
            yield Place(level, "up", 0, channels, channels, False)
        for i in range(settings.num_blocks + 1):
            out = settings.model_channels * mult
            attends = heights[level] in settings.attn_resolutions and (settings.plan.attends_all or i == last)
            yield Place(level, "block", i, channels + skips.pop(), out, attends)
            channels = out


def stem(settings: EdmSettings) -> int:
    """Channels of the first convolution."""
    return settings.model_channels * (1 if settings.plan.early else settings.channel_mult[0])


class EdmUNet(Adapting):
    """The network of `ncsnpp`, `ddpmpp` and `adm`.

    It is called (x (B, C, H, W), c_noise (B,) or (B, times), cond) and gives (B, out, H, W). Every output on the way
    down, that of the stem included, is concatenated to the input of a block on the way up.
    With the residual encoder a second stream of pictures runs beside the way down.

    Attributes:
        pictures: Of the residual encoder, from one level to the next; empty without it.
    """

    def __init__(self, settings: EdmSettings, sizes: list[tuple[int, int]], context: Context) -> None:
        super().__init__()
        self.settings, self.sizes = settings, sizes
        style, heights = settings.plan.style, [height for height, _ in sizes]
        downs, ups = list(encoder(settings, heights)), list(decoder(settings, heights))
        first, last = context.spec.channels, ups[-1].out
        out = context.out_channels or first
        self.conditioning = _conditioning(settings, context)
        self.stem = conv(first, stem(settings), style=style)
        self.encoder = nn.ModuleList(_stage(settings, place, heights) for place in downs)
        self.decoder = nn.ModuleList(_stage(settings, place, heights) for place in ups)
        self.pictures = nn.ModuleList()
        if settings.encoder == "residual":
            outs = [first, *(place.out for place in downs if place.kind == "down")]
            pairs = itertools.pairwise(outs)
            self.pictures.extend(Shrink(a, b, settings.resample_filter, style) for a, b in pairs)
        self.halves = [place.kind == "down" for place in downs]
        self.joins = [place.kind == "block" for place in ups]
        self.norm, self.out = norm(last, style.eps), conv(last, out, gain=style.quiet, style=style)

    def forward(self, x: Tensor, c_noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        emb = self.conditioning(c_noise, cond)
        skips = self._down(channels_last(x), emb)
        x = skips[-1]
        for stage, joins in zip(self.decoder, self.joins, strict=True):
            if joins:  # bound to the one name, so that what was joined can go
                x = torch.cat([x, skips.pop()], 1)
            x = stage(x, emb)
        return self.out(F.silu(self.norm(x))).contiguous()

    def features(self, x: Tensor, c_noise: Tensor, cond: Mapping[str, Tensor]) -> list[Tensor]:
        """The last output of each level on the way down, and that of the middle."""
        emb = self.conditioning(c_noise, cond)
        skips = self._down(channels_last(x), emb)
        middle = skips[-1]
        for stage in self.decoder[:2]:
            middle = stage(middle, emb)
        ends = [skip for skip, halves in zip(skips, self.halves, strict=False) if halves]
        return [*ends, skips[-1], middle]

    def _down(self, x: Tensor, emb: Tensor) -> list[Tensor]:
        """The outputs of the stem and of every block on the way down."""
        picture, pictures = x, iter(self.pictures)
        skips = [self.stem(x)]
        for stage, halves in zip(self.encoder, self.halves, strict=True):
            x = stage(skips[-1], emb)
            if halves and len(self.pictures):
                x = picture = add(x, next(pictures)(picture), 0.5**0.5)
            skips.append(x)
        return skips


def _conditioning(settings: EdmSettings, context: Context) -> Conditioning:
    width, early = settings.model_channels * settings.channel_mult_noise, settings.plan.early
    features: nn.Module
    if settings.embedding == "fourier":
        features = Fourier(width, settings.fourier_scale, context.times, Key(context.seed).generator("init", 1))
    else:
        features = Positional(width, context.times, endpoint=early, scale=settings.positional_scale)
    out, style = settings.model_channels * settings.channel_mult_emb, settings.plan.style
    return Conditioning(features, width * context.times, out, context, early=early, style=style)


def _stage(settings: EdmSettings, place: Place, heights: list[int]) -> Stage:
    style, height = settings.plan.style, heights[place.level]
    greatest = settings.dropout_max_resolution
    block = Block(
        place.channels,
        place.out,
        settings.model_channels * settings.channel_mult_emb,
        settings.dropout if greatest is None or height <= greatest else 0.0,
        resample=Resample(settings.resample_filter, place.kind == "up") if place.kind in ("down", "up") else None,
        scale_shift=settings.scale_shift_norm,
        double_norm=settings.double_norm,
        style=style,
    )
    head = settings.head(place.out)
    attention = Attention(place.out, head, qk_norm=settings.qk_norm, style=style) if place.attention else None
    return Stage(block, attention, settings.recompute)
