from typing import Any

import attrs

from genkit import build, levels
from genkit.denoiser import Denoiser, Loss, Program
from genkit.kinds import slot


@attrs.frozen(kw_only=True)
class Api1Objective:
    """Denoising at the levels of a noise law."""

    predicts = "denoised"

    network: Any = slot("network", "mlp", "F")
    parameterization: Any = slot("parameterization", "edm", "how F becomes D")
    noise: Any = slot("noise", "lognormal", "the law of sigma")
    sampler: Any = slot("sampler", "heun", "how the model is sampled", identity=False)

    def build(self, context):
        return Api1ObjectiveProgram(self, context)


class Api1ObjectiveProgram(Program):
    def __init__(self, settings, context):
        super().__init__()
        self.noise = build(settings.noise, context)
        parts = (build(part, context) for part in (settings.network, settings.parameterization))
        self.student = Denoiser(*parts, context.spec, build(settings.sampler, context))

    def forward(self, batch, k, key):
        sigma = self.noise.icdf(key.uniform("level", len(batch.x), batch.x.device)).float()
        x = levels.add_noise(batch.x, sigma, key.normal("eps", batch.x))
        error = (self.student(x, sigma, batch.cond) - batch.x).flatten(1).square().mean(1)
        return Loss(error, {"sigma": sigma.mean()})
