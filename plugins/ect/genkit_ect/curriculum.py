"""The curriculum of ECT."""

from __future__ import annotations

import attrs

from genkit.kinds import setting

FINEST = 24  # beyond 2^24, r and t are equal in float32


@attrs.frozen(kw_only=True)
class Powers:
    """Powers N(k) = min(q^(a + 1), most) + 1, a = floor(k S / K) of S stages.

    With pairs of ECT, each stage takes steps that are q times smaller. q = 2 in eight stages is the published schedule
    of CIFAR-10, q = 256 in one stage its short one. TCM limits the ratio r / t of large levels: 0.999 is `most` = 1000.

    Source: Geng et al. 2024 (arXiv 2406.14548), its continuous-time schedule, and the published code; `most`: Lee et
    al. 2024 (arXiv 2410.14895), the published code.
    """

    q: int = setting(2, "how many times finer each stage is", check=attrs.validators.ge(2))
    stages: int = setting(8, "S, stages of equal length", check=attrs.validators.ge(1))
    most: int | None = setting(
        None,
        "largest N(k) - 1; no limit if not given",
        check=attrs.validators.optional(attrs.validators.and_(attrs.validators.ge(1), attrs.validators.le(2**FINEST))),
    )

    def __attrs_post_init__(self) -> None:
        if self.most is None and (self.stages > FINEST or self.q**self.stages > 2**FINEST):
            raise ValueError(f"q^stages = {self.q}^{self.stages} is beyond 2^24, where r and t are equal in float32")

    def __call__(self, k: int, total_steps: int) -> int:
        stage = min(k * self.stages // total_steps, self.stages - 1, FINEST)
        return min(int(self.q ** (stage + 1)), self.most or 2**FINEST) + 1
