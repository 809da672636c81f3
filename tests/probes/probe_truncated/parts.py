from __future__ import annotations

from typing import Any

import attrs
import torch

from genkit.kinds import setting, source
from genkit.levels import expand


@attrs.frozen(kw_only=True)
class FrozenBelow:
    """Frozen weights below a level, the student's above."""

    level: float = setting(1.0, "where the frozen weights take over", check=attrs.validators.gt(0))
    model: Any = source("the model of the first stage")

    def build(self, context):
        return Truncated(level=self.level, frozen=context.load(self.model))


@attrs.frozen(kw_only=True, eq=False)
class Truncated:
    level: float
    frozen: Any

    def init(self, student):
        def answer(x, sigma, cond=None, to=None):
            return torch.where(expand(sigma < self.level, x), self.frozen(x, sigma, cond), student(x, sigma, cond))

        return answer

    def update(self, teacher, student, intervals):
        pass
