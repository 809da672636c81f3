"""The running average of the student's weights that is sampled and evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """theta_ema <- beta theta_ema + (1 - beta) theta, over floating-point parameters and buffers.

    Attributes:
        weights: By name, float32, on the module's device.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.weights = {name: t.detach().clone() for name, t in _floats(module).items()}
        self._ema, self._live = list(self.weights.values()), list(_floats(module).values())

    @torch.no_grad()
    def update(self, beta: float) -> None:
        torch._foreach_lerp_(self._ema, self._live, 1.0 - beta)

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor]) -> None:
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])

    @contextmanager
    def swapped(self) -> Iterator[nn.Module]:
        """The module with averaged weights, in eval mode; its own come back afterwards."""
        training = self.module.training
        self._swap()
        self.module.eval()
        try:
            yield self.module
        finally:
            self._swap()
            self.module.train(training)

    @torch.no_grad()
    def _swap(self) -> None:
        for ema, live in zip(self._ema, self._live, strict=True):
            kept = live.clone()
            live.copy_(ema)
            ema.copy_(kept)


def _floats(module: nn.Module) -> dict[str, Tensor]:
    return {name: t for name, t in module.state_dict().items() if t.is_floating_point()}
