import functools

import attrs
import torch

from genkit.kinds import setting


def cauchy(x, y, at=None, *, c):
    return torch.log1p((x - y).flatten(1).square().sum(1) / (2 * c * c))


@attrs.frozen(kw_only=True)
class Cauchy:
    """Cauchy loss log(1 + |x - y|^2 / (2 c^2))."""

    c: float = setting(0.1, "data units", check=attrs.validators.gt(0))

    def build(self, context):
        return functools.partial(cauchy, c=self.c)
