"""Optimizers, with one set of settings."""

from __future__ import annotations

import math
from typing import Any

import attrs
import torch
from attrs.validators import and_, ge, gt, in_, lt, optional
from torch import nn

from genkit.kinds import setting
from genkit_optim.radam import FusedRAdam

Named = list[tuple[str, nn.Parameter]]


@attrs.frozen(kw_only=True)
class _Settings:
    """What the three have in common: fields, and the rate over time."""

    lr: float = setting(1e-4, "learning rate, before warm-up and decay", check=gt(0))
    beta1: float = setting(0.9, "decay of the running average of gradients", check=and_(ge(0), lt(1)))
    beta2: float = setting(0.999, "decay of the running average of their squares", check=and_(gt(0), lt(1)))
    eps: float = setting(1e-8, "added to the root of the squares", check=gt(0))
    weight_decay: float = setting(0.0, "pull towards zero", check=ge(0))
    clip: float | None = setting(
        None, "largest norm of all gradients together; no limit if not given", check=optional(gt(0))
    )
    warmup_steps: int = setting(0, "steps in which the rate rises linearly to lr", check=ge(0))
    decay: str = setting(
        "constant",
        "of the rate: constant; cosine or linear, to zero at the last step; inverse-sqrt, without end",
        check=in_(("constant", "cosine", "linear", "inverse-sqrt")),
    )
    decay_steps: int = setting(1, "steps from which the rate falls by inverse-sqrt", check=ge(1))

    def lr_scale(self, k: int, total_steps: int) -> float:
        """The rate at step k (from 0) over `lr`; w is `warmup_steps`, K is `total_steps`.

        (k + 1) / w for k < w; then, with p = min(1, (k - w) / (K - w)), the share of the rest that is done,

            constant: 1      linear: 1 - p      cosine: (1 + cos(pi p)) / 2
            inverse-sqrt: sqrt(d / max(k, d)), d = `decay_steps`

        Source of the last: Karras et al. 2024 (arXiv 2312.02696), the decay of its rate.
        """
        if k < self.warmup_steps:
            return (k + 1) / self.warmup_steps
        done = min(1.0, (k - self.warmup_steps) / max(1, total_steps - self.warmup_steps))
        if self.decay == "inverse-sqrt":
            return math.sqrt(self.decay_steps / max(k, self.decay_steps))
        if self.decay == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        return 1.0 - done if self.decay == "linear" else 1.0

    def _made(self, cls: type[torch.optim.Optimizer], params: Named, **more: Any) -> torch.optim.Optimizer:
        """A torch optimizer of class `cls`, which clips gradients before each step if asked."""
        made = cls(
            [p for _, p in params],
            lr=self.lr,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
            **more,
        )  # type: ignore[call-arg]
        if self.clip is not None:
            clip = self.clip
            made.register_step_pre_hook(lambda optimizer, args, kwargs: _clip(optimizer, clip))
        return made


def _clip(optimizer: torch.optim.Optimizer, largest: float) -> None:
    """Scale all gradients by min(1, largest / norm), on the device and without waiting for it."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_(params, largest, error_if_nonfinite=False)


@attrs.frozen(kw_only=True)
class RAdam(_Settings):
    """Rectified Adam, exact, on torch's fused Adam kernel.

    Equal to `torch.optim.RAdam`; weight decay is added to the gradient.

    Source: Liu et al. 2020 (arXiv 1908.03265), algorithm 2; iCT uses it at lr = 1e-4.
    """

    def optimizer(self, params: Named) -> torch.optim.Optimizer:
        return self._made(FusedRAdam, params)


@attrs.frozen(kw_only=True)
class Adam(_Settings):
    """Adam; weight decay is added to the gradient.

    Source: Kingma & Ba 2015 (arXiv 1412.6980), algorithm 1.
    """

    def optimizer(self, params: Named) -> torch.optim.Optimizer:
        return self._made(torch.optim.Adam, params, fused=True)


@attrs.frozen(kw_only=True)
class AdamW(_Settings):
    """Adam with decoupled weight decay.

    Each step also multiplies the weights by 1 - rate * weight_decay.

    Source: Loshchilov & Hutter 2019 (arXiv 1711.05101), algorithm 2.
    """

    def optimizer(self, params: Named) -> torch.optim.Optimizer:
        return self._made(torch.optim.AdamW, params, fused=True)
