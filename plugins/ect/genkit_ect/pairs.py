"""How ECT pairs levels."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from genkit.kinds import Context, Noise, setting


@attrs.frozen(kw_only=True)
class Ect:
    """t of the noise law, on no grid, and r = max(0, t - t n(t) / (N(k) - 1)).

    n(t) = 1 + k / (1 + e^(b t)) falls from 1 + k / 2 at t = 0 to 1: small levels take larger steps. N(k) - 1, in the
    paper q^(a + 1) at stage a, is what the curriculum says. t may leave [sigma_min, sigma_max]; where r = 0 the target
    is the clean sample.

    Source: Geng et al. 2024 (arXiv 2406.14548), the mapping function of its continuous-time schedule.
    """

    k: float = setting(8.0, "how much larger steps are at small levels", check=attrs.validators.ge(0))
    b: float = setting(1.0, "how soon that fades as levels rise, per unit of t", check=attrs.validators.ge(0))

    def build(self, context: Context) -> Ect:
        return self

    def __call__(self, noise: Noise, n: int, draw: Callable[..., Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        t = noise.icdf(draw())
        steps = 1 + self.k * torch.sigmoid(-self.b * t)
        gap = t * (steps / (n - 1)).clamp(max=1)
        return t.float(), (t - gap).float(), gap.float()
