"""Pieces of U-Nets: normalisation, embeddings, residual and attention blocks, seeded building."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genkit.keys import Key
from genkit.kinds import Context

Module = TypeVar("Module", bound=nn.Module)
Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def seeded(context: Context, make: Callable[[], Module]) -> Module:
    """A module whose initial weights are a function of `context.seed` alone, on `context.device`.

    They are drawn on the CPU, so that they are the same for every device, and the default generator
    is afterwards as it was.
    """
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(Key(context.seed).integer("init"))
    try:
        with torch.device("cpu"):
            module = make()
    finally:
        torch.default_generator.set_state(before)
    return module.to(context.device)


def lecun(layer: Layer, gain: float = 1.0) -> Layer:
    """A convolution or linear layer with weights ~ N(0, gain^2 / fan_in) and no bias: unit variance is kept."""
    fan_in = layer.weight[0].numel()
    nn.init.normal_(layer.weight, std=gain / math.sqrt(fan_in))
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def conv(channels: int, out: int, kernel: int = 3, gain: float = 1.0) -> nn.Conv2d:
    """Convolution that keeps the resolution; `gain` 0 starts it at zero."""
    return lecun(nn.Conv2d(channels, out, kernel, padding=kernel // 2), gain)


def norm(channels: int) -> nn.GroupNorm:
    """GroupNorm of at most 32 groups, of at least 4 channels each where the channels divide so."""
    wanted = max(1, min(32, channels // 4))
    groups = next(g for g in range(wanted, 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels, eps=1e-6)


class Fourier(nn.Module):
    """Embedding of times: cos and sin of 2 pi f c at fixed random frequencies f ~ N(0, scale^2).

    Called with (B,) or (B, times); gives (B, times * channels), float32 whatever the autocast.

    Source: Tancik et al. 2020 (arXiv 2006.10739); Song et al. 2021 (arXiv 2011.13456), appendix C; the
    scale 0.02 is from Song & Dhariwal 2023 (arXiv 2310.14189), section 3.2.
    """

    freqs: Tensor

    def __init__(self, channels: int, scale: float, times: int, generator: torch.Generator) -> None:
        super().__init__()
        self.times = times
        self.register_buffer("freqs", torch.randn(channels // 2, generator=generator) * scale)

    def forward(self, c: Tensor) -> Tensor:
        c = c.to(self.freqs.dtype).reshape(len(c), self.times, 1)
        angles = (2 * math.pi) * c * self.freqs
        return torch.cat([angles.cos(), angles.sin()], 2).flatten(1)


class Embedding(nn.Module):
    """What all blocks are told: silu(W2 silu(W1 fourier(c_noise)) + label), (B, out).

    Attributes:
        classes: Number of classes; label index `classes`, and no label at all, mean "none".
    """

    def __init__(self, channels: int, out: int, scale: float, times: int, context: Context) -> None:
        super().__init__()
        self.classes = context.spec.classes
        self.fourier = Fourier(channels, scale, times, Key(context.seed).generator("init", 1))
        self.inner = lecun(nn.Linear(channels // 2 * 2 * times, out))
        self.outer = lecun(nn.Linear(out, out))
        self.label = nn.Embedding(self.classes + 1, out) if self.classes else None

    def forward(self, c_noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        emb = self.outer(F.silu(self.inner(self.fourier(c_noise))))
        if self.label is not None:
            label = cond.get("label")
            if label is None:
                label = torch.full((len(emb),), self.classes, device=emb.device)
            emb = emb + self.label(label)
        return F.silu(emb)


class Block(nn.Module):
    """Residual block (skip(x) + conv(drop(silu(norm(conv(silu(norm(x))) + shift))))) / sqrt(2).

    The last convolution starts at zero, and the sum is divided by sqrt(2) to keep its variance.

    Source: Song et al. 2021 (arXiv 2011.13456), appendix H (after Brock et al. 2019).
    """

    def __init__(self, channels: int, out: int, emb: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm0, self.conv0 = norm(channels), conv(channels, out)
        self.shift = lecun(nn.Linear(emb, out))
        self.norm1, self.conv1 = norm(out), conv(out, out, gain=0.0)
        self.skip = conv(channels, out, kernel=1) if channels != out else nn.Identity()
        self.dropout = dropout

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv0(F.silu(self.norm0(x))) + self.shift(emb)[:, :, None, None]
        h = F.dropout(F.silu(self.norm1(h)), self.dropout, self.training)
        return (self.skip(x) + self.conv1(h)) * math.sqrt(0.5)


class Attention(nn.Module):
    """Residual self-attention over pixels: (x + out(softmax(q k^T / sqrt(d)) v)) / sqrt(2).

    Args:
        head: Channels per head; one head if the channels are fewer or do not divide.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), eq. 1; in U-Nets, Ho et al. 2020 (arXiv 2006.11239).
    """

    def __init__(self, channels: int, head: int = 64) -> None:
        super().__init__()
        self.heads = channels // head if channels % head == 0 else 1
        self.norm, self.qkv = norm(channels), conv(channels, 3 * channels, kernel=1)
        self.out = conv(channels, channels, kernel=1, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, height * width)
        q, k, v = qkv.transpose(3, 4).unbind(1)
        h = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(b, c, height, width)
        return (x + self.out(h)) * math.sqrt(0.5)
