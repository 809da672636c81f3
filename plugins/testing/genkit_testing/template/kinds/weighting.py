import attrs

from genkit.kinds import setting


@attrs.frozen(kw_only=True)
class Example:
    """lambda = t^-power."""

    power: float = setting(1.0, "how fast large levels lose weight", check=attrs.validators.ge(0))

    def build(self, context):
        return lambda t, r=None, gap=None: t**-self.power
