"""Embeddings of noise levels and labels, as the networks of EDM have them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genkit.kinds import Context
from genkit_unets.augment import listener, told
from genkit_unets.blocks import Style


class Positional(nn.Module):
    """Embedding of times: cos and sin of scale c f at f = 10000^(-i / count), i from 0.

    Called with (B,) or (B, times); gives (B, times * channels), float32 whatever the autocast.

    Args:
        endpoint: Whether the last frequency is 1/10000 (count = channels / 2 - 1), or the next one would be.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.5; for noise levels Ho et al. 2020
    (arXiv 2006.11239), with endpoint Song et al. 2021 (arXiv 2011.13456).
    """

    freqs: Tensor

    def __init__(self, channels: int, times: int, endpoint: bool, scale: float = 1.0) -> None:
        super().__init__()
        self.times, self.scale = times, scale
        half = channels // 2
        steps = torch.arange(half, dtype=torch.float32) / max(half - endpoint, 1)
        self.register_buffer("freqs", (1 / 10000) ** steps, persistent=False)

    def forward(self, c: Tensor) -> Tensor:
        c = c.to(self.freqs.dtype).reshape(len(c), self.times, 1) * self.scale
        angles = c * self.freqs
        return torch.cat([angles.cos(), angles.sin()], 2).flatten(1)


class Labels(nn.Module):
    """Embedding of a class: scale weight[label] + bias, (B, out); the index `classes` has the weight zero.

    It is a linear layer on one-hot vectors of length `scale`, and "no class" is the zero vector.
    """

    def __init__(self, classes: int, out: int, scale: float = 1.0, bias: bool = False) -> None:
        super().__init__()
        self.classes, self.scale = classes, scale
        self.weight = nn.Parameter(torch.randn(classes, out))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None

    def forward(self, label: Tensor | None, count: int) -> Tensor:
        if label is None:
            label = torch.full((count,), self.classes, device=self.weight.device)
        emb = self.scale * F.embedding(label, F.pad(self.weight, (0, 0, 0, 1)))
        return emb if self.bias is None else emb + self.bias


class Conditioning(nn.Module):
    """What all blocks are told: silu(W2 silu(W1 (noise + label))), or silu(W2 silu(W1 noise) + label), (B, out).

    To `noise` a linear layer adds what `cond["augment"]` says, where there is such. `early` adds the label before the
    two layers, as DDPM++ and NCSN++ do, with a bias and one-hot vectors of length sqrt(classes); otherwise after them,
    as ADM does. All is float32 (or better) under any autocast: the embeddings of neighbouring levels may differ by
    1e-4, which half precision does not see.

    Args:
        features: Embedding of c_noise, (B, width).

    Source: Karras et al. 2022 (arXiv 2206.00364), appendix F.4 and table 8.
    """

    def __init__(
        self, features: nn.Module, width: int, out: int, context: Context, *, early: bool, style: Style
    ) -> None:
        super().__init__()
        self.features, self.early = features, early
        self.inner, self.outer = style.init(nn.Linear(width, out), 1.0), style.init(nn.Linear(out, out), 1.0)
        self.label: Labels | None = None
        classes = context.spec.classes
        if classes and early:
            self.label = Labels(classes, width, math.sqrt(classes), bias=True)
            nn.init.xavier_uniform_(self.label.weight)
        elif classes:
            self.label = Labels(classes, out)
        self.augment = listener(context, width)
        if self.augment is not None and early:  # as EDM has it
            nn.init.xavier_uniform_(self.augment.weight)

    def forward(self, c_noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        with torch.autocast(c_noise.device.type, enabled=False):
            emb = told(self.features(c_noise), self.augment, cond)
            if self.label is None:
                return F.silu(self.outer(F.silu(self.inner(emb))))
            label = self.label(cond.get("label"), len(emb))
            if self.early:
                return F.silu(self.outer(F.silu(self.inner(emb + label))))
            return F.silu(self.outer(F.silu(self.inner(emb))) + label)
