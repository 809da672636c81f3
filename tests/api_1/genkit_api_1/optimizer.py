import attrs
import torch

from genkit.kinds import setting


@attrs.frozen(kw_only=True)
class Api1Optimizer:
    """Stochastic gradient descent with momentum."""

    lr: float = setting(0.05, "learning rate", check=attrs.validators.gt(0))
    momentum: float = setting(0.5, "share of the last step in the next", check=attrs.validators.ge(0))

    def optimizer(self, params):
        return torch.optim.SGD([p for _, p in params], lr=self.lr, momentum=self.momentum)

    def lr_scale(self, k, total_steps):
        return 1 - k / total_steps
