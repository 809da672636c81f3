"""Profiles of the running average of weights."""

from __future__ import annotations

import attrs
from attrs.validators import and_, gt, lt, optional

from genkit.kinds import setting


@attrs.frozen(kw_only=True)
class Constant:
    """Constant decay, with a warm-up if asked.

    beta(k) = decay; with `warmup`, min(decay, (1 + k) / (10 + k)), which forgets the first weights.

    Source: Song & Dhariwal 2023 (arXiv 2310.14189), table 1 (0.99993, no warm-up); the warm-up is that
    of TensorFlow's ExponentialMovingAverage.
    """

    decay: float = setting(
        0.9999, "share of the old average that each step keeps (iCT: 0.99993)", check=and_(gt(0), lt(1))
    )
    warmup: bool = setting(False, "start with (1 + k) / (10 + k) where that is smaller")

    def beta(self, k: int, batch_size: int) -> float:
        return min(self.decay, (1 + k) / (10 + k)) if self.warmup else self.decay


@attrs.frozen(kw_only=True)
class Halflife:
    """Decay by a half-life in thousands of images: beta = 0.5^(B / halflife).

    With `rampup_ratio` the half-life of step k is at most that share of the k B images seen before it;
    step 0 then has beta = 0: the average is the weights.

    Source: Karras et al. 2022 (arXiv 2206.00364), appendix F.
    """

    halflife_kimg: float = setting(500.0, "thousands of images after which old weights count half", check=gt(0))
    rampup_ratio: float | None = setting(
        None, "the half-life's largest share of the images seen (EDM: 0.05)", check=optional(gt(0))
    )

    def beta(self, k: int, batch_size: int) -> float:
        halflife = 1000.0 * self.halflife_kimg
        if self.rampup_ratio is not None:
            halflife = min(halflife, self.rampup_ratio * k * batch_size)
        return 0.5 ** (batch_size / halflife) if halflife > 0 else 0.0
