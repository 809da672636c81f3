"""Profiles of the running average of weights."""

from __future__ import annotations

import functools

import attrs
import numpy
from attrs.validators import and_, gt, le, lt, optional

from genkit.kinds import setting

WIDEST = 0.2886  # 1 / sqrt(12), of gamma = 0


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


@attrs.frozen(kw_only=True)
class Power:
    """Average by a power of time, whose width is a share of the training so far.

    beta(k) = (1 - 1 / t)^(gamma + 1), t = k + 1. After t steps the weights of step s then count

        (s^(gamma + 1) - (s - 1)^(gamma + 1)) / t^(gamma + 1),

    in proportion to s^gamma, and those from before the first step not at all. The standard deviation of s is
    `sigma_rel` t. What is kept of two such averages makes one of any width afterwards: `genkit weights average`.

    Source: Karras et al. 2024 (arXiv 2312.02696), section 3.1 and appendix C.
    """

    sigma_rel: float = setting(
        0.1,
        "width, a share of the steps taken; at most 0.2886, where all steps count alike",
        check=and_(gt(0), le(WIDEST)),
    )

    def beta(self, k: int, batch_size: int) -> float:
        return float((1 - 1 / (k + 1)) ** (gamma_of(self.sigma_rel) + 1))


@functools.cache
def gamma_of(sigma_rel: float) -> float:
    """The power whose profile has this relative width: sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).

    The largest root of gamma^3 + 7 gamma^2 + (16 - sigma_rel^-2) gamma + 12 - sigma_rel^-2.
    """
    roots = numpy.roots([1, 7, 16 - sigma_rel**-2, 12 - sigma_rel**-2])
    return float(roots.real.max())
