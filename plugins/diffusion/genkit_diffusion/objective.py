"""The diffusion objective of EDM."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from genkit import build, levels
from genkit.data import drop_labels
from genkit.denoiser import Denoiser, Loss, Program
from genkit.keys import Key
from genkit.kinds import Batch, Context, setting, slot
from genkit_coupling.independent import coupling_slot, paired


@attrs.frozen(kw_only=True)
class Diffusion:
    """Denoising lambda(sigma) |D(x0 + sigma eps, sigma) - x0|^2 at levels of a continuous law.

    The squared norm is the sum over the dimensions of a sample. Levels are drawn from the law as it is, not
    from a grid, and may leave [sigma_min, sigma_max].

    Source: Karras et al. 2022 (arXiv 2206.00364), eq. 8 and table 1.
    """

    predicts: ClassVar[str] = "denoised"

    network: Any = slot("network", "unet", "F, the network that is trained")
    parameterization: Any = slot("parameterization", "edm", "how F becomes D")
    noise: Any = slot("noise", "lognormal", "the law of sigma (EDM: p_mean -1.2, p_std 1.2)", p_mean=-1.2, p_std=1.2)
    weighting: Any = slot("weighting", "edm", "lambda(sigma)")
    coupling: Any = coupling_slot()
    sampler: Any = slot("sampler", "heun", "how the model is sampled", identity=False)
    label_drop: float = setting(
        0.0,
        "chance that a label is replaced by the null class, which guidance needs",
        check=attrs.validators.and_(attrs.validators.ge(0), attrs.validators.le(1)),
    )

    def build(self, context: Context) -> DiffusionProgram:
        return DiffusionProgram(self, context)


class DiffusionProgram(Program):
    """The denoiser that is trained, and nothing else."""

    def __init__(self, settings: Diffusion, context: Context) -> None:
        super().__init__()
        self.settings, self.classes = settings, context.spec.classes
        self.noise, self.weighting = build(settings.noise, context), build(settings.weighting, context)
        self.coupling = build(settings.coupling, context)
        self.student = Denoiser(
            build(settings.network, context),
            build(settings.parameterization, context),
            context.spec,
            build(settings.sampler, context),
        )

    def forward(self, batch: Batch, k: int, key: Key) -> Loss:
        """lambda(sigma) |D(x0 + sigma eps, sigma) - x0|^2 and the coupling's price per sample.

        The figure is the mean of the first over dimensions.
        """
        x0 = batch.x
        cond = drop_labels(batch.cond, self.settings.label_drop, self.classes, key)
        sigma = self.noise.icdf(key.uniform("level", len(x0), x0.device)).float()
        eps, price = paired(self.coupling, x0, cond, key)
        x = levels.add_noise(x0, sigma, eps)
        with key.reseeded(x0.device):
            error = (self.student(x, sigma, cond) - x0).flatten(1)
        values = self.weighting(sigma) * error.square().sum(1)
        return Loss(values + price, {"denoising": values.detach().mean() / error.shape[1]})
