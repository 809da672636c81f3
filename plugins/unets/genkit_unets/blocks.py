"""Pieces of U-Nets: starting weights, embeddings, residual and attention blocks, seeded building."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genkit.keys import Key
from genkit.kinds import Context
from genkit_unets.augment import listener, told

Module = TypeVar("Module", bound=nn.Module)
Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def seeded(context: Context, make: Callable[[], Module]) -> Module:
    """A module whose initial weights are a function of `context.seed` alone, on `context.device`.

    They are drawn on the CPU, so that they are the same for every device, and the default generator
    is afterwards as it was. On device "meta" nothing is drawn: shapes only, at once.
    """
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(Key(context.seed).integer("init"))
    try:
        with torch.device("meta" if context.device == "meta" else "cpu"):
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


def xavier(layer: Layer, gain: float = 1.0) -> Layer:
    """Weights uniform on gain sqrt(6 / (fan_in + fan_out)) [-1, 1], no bias (Glorot & Bengio 2010, eq. 16)."""
    nn.init.xavier_uniform_(layer.weight, gain)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def uniform(layer: Layer, gain: float = 1.0) -> Layer:
    """Weights and biases uniform on gain / sqrt(fan_in) [-1, 1]: torch's own start, scaled."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(gain)
    return layer


class Style(NamedTuple):
    """What families of U-Nets do differently in every block.

    Attributes:
        init: Starting weights of a layer, times a gain.
        quiet: Gain of the last layer of every residual branch.
        qkv: Gain of the layer that makes queries, keys and values.
        eps: Added to variances by normalisation.
        sum: Factor of every residual sum.
        project: Whether the skip connection of a block that resamples is a 1x1 convolution.
    """

    init: Callable[[Layer, float], Layer] = lecun
    quiet: float = 0.0
    qkv: float = 1.0
    eps: float = 1e-6
    sum: float = math.sqrt(0.5)
    project: bool = False


PLAIN = Style()


def conv(channels: int, out: int, kernel: int = 3, gain: float = 1.0, style: Style = PLAIN) -> nn.Conv2d:
    """Convolution that keeps the resolution; `gain` 0 starts it at zero."""
    return style.init(nn.Conv2d(channels, out, kernel, padding=kernel // 2), gain)


def norm(channels: int, eps: float = 1e-6) -> nn.GroupNorm:
    """GroupNorm of at most 32 groups, of at least 4 channels each where the channels divide so."""
    wanted = max(1, min(32, channels // 4))
    groups = next(g for g in range(wanted, 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels, eps=eps)


def channels_last(x: Tensor) -> Tensor:
    """A copy of x with the channels of a pixel side by side in memory: what convolutions and attention are fast on.

    On a CPU everything computed from it keeps that order. A copy always, since with one channel torch takes any order
    for this one and then computes in the other.
    """
    return x.movedim(1, -1).clone(memory_format=torch.contiguous_format).movedim(-1, 1)


class Fourier(nn.Module):
    """Embedding of times: cos and sin of 2 pi f c at fixed random frequencies f ~ N(0, scale^2).

    Called with (B,) or (B, times); gives (B, times * channels), float32 whatever the autocast.

    Source: Tancik et al. 2020 (arXiv 2006.10739); Song et al. 2021 (arXiv 2011.13456), appendix C; the
    scale 0.02 is from Song & Dhariwal 2023 (arXiv 2310.14189), section 3.1.
    """

    freqs: Tensor

    def __init__(self, channels: int, scale: float, times: int, generator: torch.Generator) -> None:
        super().__init__()
        self.times = times
        freqs = torch.randn(channels // 2, generator=generator, device=generator.device) * scale
        self.register_buffer("freqs", freqs)

    def forward(self, c: Tensor) -> Tensor:
        c = c.to(self.freqs.dtype).reshape(len(c), self.times, 1)
        angles = c * (2 * math.pi * self.freqs)
        return torch.cat([angles.cos(), angles.sin()], 2).flatten(1)


class Embedding(nn.Module):
    """What all blocks are told: silu(W2 silu(W1 (fourier(c_noise) + augment)) + label), (B, out).

    Attributes:
        classes: Number of classes; label index `classes`, and no label at all, mean "none".
    """

    def __init__(self, channels: int, out: int, scale: float, context: Context) -> None:
        super().__init__()
        self.classes = context.spec.classes
        self.fourier = Fourier(channels, scale, context.times, Key(context.seed).generator("init", 1))
        self.inner = lecun(nn.Linear(channels // 2 * 2 * context.times, out))
        self.outer = lecun(nn.Linear(out, out))
        self.label = nn.Embedding(self.classes + 1, out) if self.classes else None
        self.augment = listener(context, self.inner.in_features)

    def forward(self, c_noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        emb = self.outer(F.silu(self.inner(told(self.fourier(c_noise), self.augment, cond))))
        if self.label is not None:
            none = torch.full((len(emb),), self.classes, device=emb.device)
            emb = emb + self.label(cond.get("label", none))
        return F.silu(emb)


class Block(nn.Module):
    """Residual block: sum (skip(x) + conv(drop(silu(norm(conv(silu(norm(x))) + shift))))), sum = sqrt(1/2).

    With `scale_shift` the embedding acts after the second norm instead: (1 + scale) norm(h) + shift. So it does with
    `double_norm`, where 1 + scale and shift have root mean square 1 over channels. `resample` acts on both branches.
    The last convolution starts near zero, and the sum is scaled to keep its variance, both as the style says.

    Source: Song et al. 2021 (arXiv 2011.13456), appendix H (after Brock et al. 2019); scale, shift: Dhariwal & Nichol
    2021 (arXiv 2105.05233), section 3.1; adaptive double normalisation: Lu & Song 2024 (arXiv 2410.11081), section 4.1.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        emb: int,
        dropout: float = 0.0,
        *,
        resample: nn.Module | None = None,
        scale_shift: bool = False,
        double_norm: bool = False,
        style: Style = PLAIN,
    ) -> None:
        super().__init__()
        self.norm0, self.conv0 = norm(channels, style.eps), conv(channels, out, style=style)
        self.shift = style.init(nn.Linear(emb, 2 * out if scale_shift or double_norm else out), 1.0)
        self.norm1, self.conv1 = norm(out, style.eps), conv(out, out, gain=style.quiet, style=style)
        projects = channels != out or (style.project and resample is not None)
        self.skip = conv(channels, out, kernel=1, style=style) if projects else nn.Identity()
        self.resample, self.dropout, self.sum = resample or nn.Identity(), dropout, style.sum
        self.scale_shift, self.double_norm = scale_shift or double_norm, double_norm

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h, shift = self.conv0(self.resample(F.silu(self.norm0(x)))), self.shift(emb)[:, :, None, None]
        if self.scale_shift:
            scale, shift = shift.chunk(2, 1)
            scale, shift = (unit(scale + 1, 1), unit(shift, 1)) if self.double_norm else (scale + 1, shift)
            h = torch.addcmul(shift, self.norm1(h), scale)
        else:
            h = self.norm1(h.add_(shift))  # in place: no gradient needs the convolution's output
        h = F.silu(h)
        if self.training and self.dropout:  # F.dropout on a CPU has other masks in forward mode than in a plain call
            h = torch.native_dropout(h, self.dropout, True)[0]
        return add(self.skip(self.resample(x)), self.conv1(h), self.sum)  # late: upwards x is small until then


def add(x: Tensor, branch: Tensor, factor: float) -> Tensor:
    """factor (x + branch)."""
    total = x + branch
    return total if factor == 1 else total.mul_(factor)  # in place: no gradient needs the sum


class Attention(nn.Module):
    """Residual self-attention over pixels: sum (x + out(softmax(q k^T / sqrt(d)) v)), sum = sqrt(1/2).

    Args:
        head: Channels per head; one head if the channels are fewer or do not divide.
        qk_norm: Divide each query and key by its root mean square, which bounds the logits by sqrt(d).

    Source: Vaswani et al. 2017 (arXiv 1706.03762), eq. 1; in U-Nets, Ho et al. 2020 (arXiv 2006.11239);
    `qk_norm`: Henry et al. 2020 (arXiv 2010.04245), in the form of Karras et al. 2024 (arXiv 2312.02696), eq. 5.
    """

    def __init__(self, channels: int, head: int = 64, *, qk_norm: bool = False, style: Style = PLAIN) -> None:
        super().__init__()
        self.heads = channels // head if channels % head == 0 else 1
        self.norm = norm(channels, style.eps)
        self.qkv = conv(channels, 3 * channels, kernel=1, gain=style.qkv, style=style)
        self.out = conv(channels, channels, kernel=1, gain=style.quiet, style=style)
        self.qk_norm, self.sum = qk_norm, style.sum

    def forward(self, x: Tensor) -> Tensor:
        # As linear layers over pixels: the heads' numbers then lie side by side, which attention kernels want.
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        qkv = F.linear(tokens, self.qkv.weight.flatten(1), self.qkv.bias).unflatten(2, (3, self.heads, -1))
        q, k, v = qkv.transpose(1, 3).unbind(2)
        if self.qk_norm:
            q, k = unit(q), unit(k)
        with torch.autocast(x.device.type, enabled=False):  # it would round the logits, in forward mode alone
            h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        h = F.linear(h, self.out.weight.flatten(1), self.out.bias)
        return add(x, h.transpose(1, 2).unflatten(2, x.shape[2:]), self.sum)


def unit(x: Tensor, dim: int = -1) -> Tensor:
    """x over its root mean square along an axis, computed in float32 or better."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * torch.rsqrt(wide.square().mean(dim, keepdim=True) + 1e-8)).to(x.dtype)
