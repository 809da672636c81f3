import attrs

from genkit.levels import expand


@attrs.frozen(kw_only=True)
class Api1Path:
    """An Euler step from t to r along the line to x0."""

    def build(self, context):
        return lambda x_t, t, r, x0, eps, cond: x_t + expand((r - t) / t, x_t) * (x_t - x0)
