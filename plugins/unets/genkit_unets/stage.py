"""A stage of a U-Net, whose activations can be computed anew."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from genkit_unets.blocks import Attention, Block


class Stage(nn.Module):
    """A residual block, followed by attention if there is one.

    With `recompute` it keeps what goes in, and backward computes the rest anew, with the same masks; not so in forward
    mode, which torch cannot repeat.
    """

    def __init__(self, block: Block, attention: Attention | None, recompute: bool = False) -> None:
        super().__init__()
        self.block, self.attention, self.recompute = block, attention, recompute

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled() and not (has_tangent(x) or has_tangent(emb)):
            return checkpoint(self._forward, x, emb, use_reentrant=False)  # type: ignore[no-any-return]
        return self._forward(x, emb)

    def _forward(self, x: Tensor, emb: Tensor) -> Tensor:
        x = self.block(x, emb)
        return x if self.attention is None else self.attention(x)


def has_tangent(x: Tensor) -> bool:
    """Whether x is part of a derivative in forward mode; those are never compiled."""
    return not torch.compiler.is_compiling() and forward_ad.unpack_dual(x).tangent is not None
