import attrs

from genkit.kinds import Coupled
from genkit.levels import expand


@attrs.frozen(kw_only=True)
class Api1Coupling:
    """Of eps and -eps the one that points to x0."""

    def build(self, context):
        return towards


def towards(x0, eps, cond, n=0):
    along = (x0 * eps).flatten(1).sum(1)
    return Coupled(eps * expand(along.sign() + (along == 0), eps))
