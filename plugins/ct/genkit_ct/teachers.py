"""The teacher of consistency training."""

from __future__ import annotations

import copy
import math

import attrs
import torch

from genkit.denoiser import Denoiser
from genkit.kinds import Context, setting


@attrs.frozen(kw_only=True)
class Ema:
    """A running average of the student, with decay mu(k) that rises with N(k), or stays.

    Adaptive: mu(k) = exp(s0 ln(mu0) / (N(k) - 1)). The published code divides by the number of intervals,
    before the final + 1; the formula printed in the paper has N(k). Fixed: mu(k) = mu0.

    Source: Song et al. 2023 (arXiv 2303.01469), appendix C and its code.
    """

    s0: int = setting(2, "N at the start of the curriculum", check=attrs.validators.ge(1))
    mu0: float = setting(
        0.9,
        "mu at N = s0 + 1, or always if fixed; at 1 the teacher would never learn, and 0 is stop-grad",
        check=attrs.validators.and_(attrs.validators.gt(0), attrs.validators.lt(1)),
    )
    mode: str = setting("adaptive", "adaptive or fixed", check=attrs.validators.in_(("adaptive", "fixed")))

    def build(self, context: Context) -> Ema:
        return self

    def mu(self, intervals: int) -> float:
        """The decay at N(k) - 1 = `intervals`."""
        if self.mode == "fixed":
            return self.mu0
        return math.exp(self.s0 * math.log(self.mu0) / max(1, intervals))

    def init(self, student: Denoiser) -> Denoiser:
        return copy.deepcopy(student)

    @torch.no_grad()
    def update(self, teacher: Denoiser, student: Denoiser, intervals: int) -> None:
        """teacher <- mu teacher + (1 - mu) student, after the student's step."""
        old, new = list(teacher.network.parameters()), list(student.network.parameters())
        torch._foreach_lerp_(old, new, 1 - self.mu(intervals))
