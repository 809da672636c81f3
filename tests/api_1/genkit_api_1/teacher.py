import copy

import attrs
import torch

from genkit.kinds import setting


@attrs.frozen(kw_only=True)
class Api1Teacher:
    """A copy of the student that follows it slowly."""

    rate: float = setting(0.05, "share of the way in each step", check=attrs.validators.gt(0))

    def build(self, context):
        return self

    def init(self, student):
        return copy.deepcopy(student)

    @torch.no_grad()
    def update(self, teacher, student, intervals):
        for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
            old.lerp_(new, self.rate)
