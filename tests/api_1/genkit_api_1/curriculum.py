import attrs

from genkit.kinds import setting


@attrs.frozen(kw_only=True)
class Api1Curriculum:
    """Few grid points in the first half, many in the second."""

    few: int = setting(11, "grid points at first", check=attrs.validators.ge(2))
    many: int = setting(161, "grid points later", check=attrs.validators.ge(2))

    def __call__(self, k, total_steps):
        return self.few if 2 * k < total_steps else self.many
