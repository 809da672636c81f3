from typing import Any

import attrs

from genkit.kinds import slot


@attrs.frozen(kw_only=True)
class Api1Metric:
    """Distance of the means of generated and real features."""

    better = "lower"
    features: Any = slot("features", "pixels", "what is compared")

    def build(self, context):
        return Sums()


class Sums:
    def __init__(self):
        self.sums = {True: 0.0, False: 0.0}
        self.counts = {True: 0, False: 0}

    def update(self, sampled, real):
        if real != "held-out":
            values = sampled.features["pool"].double()
            self.sums[real] += values.sum(0)
            self.counts[real] += len(values)

    def merge(self, other):
        for real in (True, False):
            self.sums[real] += other.sums[real]
            self.counts[real] += other.counts[real]

    def compute(self):
        means = [self.sums[real] / self.counts[real] for real in (True, False)]
        return {"gap": (means[0] - means[1]).norm().item()}
