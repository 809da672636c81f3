"""A running average of the student's weights, to be sampled and evaluated."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """theta_ema <- beta theta_ema + (1 - beta) theta, over floating-point parameters and buffers.

    Attributes:
        rule: The EMA component, which says beta at a step.
        weights: By name, float32, on the module's device.
    """

    def __init__(self, module: nn.Module, rule: Any = None) -> None:
        self.module, self.rule = module, rule
        self.weights = {name: t.detach().clone() for name, t in floats(module).items()}
        self._ema, self._live = list(self.weights.values()), list(floats(module).values())

    @torch.no_grad()
    def update(self, beta: float, resting: Collection[Tensor] = ()) -> None:
        """Follow the weights by a step, except those that rest."""
        moving = [pair for pair in zip(self._ema, self._live, strict=True) if pair[1] not in resting]
        if moving:
            torch._foreach_lerp_([ema for ema, _ in moving], [live for _, live in moving], 1.0 - beta)

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor]) -> None:
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])

    @contextmanager
    def swapped(self, averaged: bool = True) -> Iterator[nn.Module]:
        """The module in eval mode, with averaged weights if not told otherwise; all is as before afterwards."""
        training = self.module.training
        self._swap(averaged)
        self.module.eval()
        try:
            yield self.module
        finally:
            self._swap(averaged)
            self.module.train(training)

    @torch.no_grad()
    def _swap(self, averaged: bool) -> None:
        for ema, live in zip(self._ema, self._live, strict=True) if averaged else ():
            kept = live.clone()
            live.copy_(ema)
            ema.copy_(kept)


def floats(module: nn.Module) -> dict[str, Tensor]:
    """What is averaged: parameters and buffers, by name."""
    return {name: t for name, t in module.state_dict(keep_vars=True).items() if t.is_floating_point()}
