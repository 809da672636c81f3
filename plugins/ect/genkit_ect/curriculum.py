"""The curriculum of ECT."""

from __future__ import annotations

import attrs

from genkit.kinds import setting


@attrs.frozen(kw_only=True)
class Powers:
    """Powers N(k) = q^(a + 1) + 1, a = floor(k S / K) of S stages.

    With pairs of ECT, each stage takes steps that are q times smaller. q = 2 in eight stages is the published schedule
    of CIFAR-10, q = 256 in one stage its short one.

    Source: Geng et al. 2024 (arXiv 2406.14548), its continuous-time schedule, and the published code.
    """

    q: int = setting(2, "how many times finer each stage is", check=attrs.validators.ge(2))
    stages: int = setting(8, "S, stages of equal length", check=attrs.validators.ge(1))

    def __attrs_post_init__(self) -> None:
        if self.stages > 24 or self.q**self.stages > 2**24:
            raise ValueError(f"q^stages = {self.q}^{self.stages} is beyond 2^24, where r and t are equal in float32")

    def __call__(self, k: int, total_steps: int) -> int:
        return int(self.q ** (min(k * self.stages // total_steps, self.stages - 1) + 1)) + 1
