import math

import attrs


@attrs.frozen(kw_only=True)
class Api1Noise:
    """ln sigma uniform between the ends of the levels."""

    def build(self, context):
        return Api1NoiseLaw(low=math.log(context.levels.sigma_min), high=math.log(context.levels.sigma_max))


@attrs.frozen(kw_only=True)
class Api1NoiseLaw:
    low: float
    high: float

    def cdf(self, sigma):
        return ((sigma.double().log() - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, u):
        return (self.low + u.double() * (self.high - self.low)).exp()
