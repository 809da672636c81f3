import attrs
import torch

from genkit.kinds import setting


@attrs.frozen(kw_only=True)
class StudentTLoss:
    """Student's t: the mean of (nu + 1) / 2 log(1 + (x - y)^2 / (nu s^2)) over dimensions.

    The negative log-likelihood of x - y under Student's t-distribution of nu degrees of freedom and scale s, up to a
    constant: near 0 a parabola, far away a logarithm, so that outliers pull little. As nu grows it becomes
    (x - y)^2 / (2 s^2).
    """

    nu: float = setting(3.0, "degrees of freedom; fewer bear more outliers", check=attrs.validators.gt(0))
    s: float = setting(0.3, "scale, in data units", check=attrs.validators.gt(0))

    def build(self, context):
        def loss(x, y, at=None):
            t = (x - y) / self.s
            return (self.nu + 1) / 2 * torch.log1p(t.square() / self.nu).flatten(1).mean(1)

        return loss
