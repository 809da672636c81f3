import attrs

from genkit.data import quantise


@attrs.frozen(kw_only=True)
class Example:
    """Rounds to nearest, 10,000 samples, once."""

    samples = 10_000
    seeds = 1
    shape = None

    def quantise(self, x0):
        return quantise(x0)
