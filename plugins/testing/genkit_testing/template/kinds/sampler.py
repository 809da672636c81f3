import attrs
import torch


@attrs.frozen(kw_only=True)
class Example:
    """One call at the largest level: the mean of the data, nearly."""

    needs = "denoised"

    def build(self, context):
        return ExampleStep(sigma=context.levels.sigma_max)


@attrs.frozen(kw_only=True)
class ExampleStep:
    sigma: float

    def nfe(self, steps):
        return 1

    def __call__(self, denoiser, draw, cond, steps):
        x = self.sigma * draw(0)
        return denoiser(x, torch.full((len(x),), self.sigma, device=x.device), cond)
