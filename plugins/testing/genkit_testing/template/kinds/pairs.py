import attrs


@attrs.frozen(kw_only=True)
class Example:
    """r = (1 - 1 / (N(k) - 1)) t, with t of the noise law."""

    def build(self, context):
        return pairs


def pairs(noise, n, draw):
    t = noise.icdf(draw())
    gap = t / (n - 1)
    return t.float(), (t - gap).float(), gap.float()
