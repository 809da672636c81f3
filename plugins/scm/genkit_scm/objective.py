"""The objective of continuous-time consistency models."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import attrs
import torch
from attrs.validators import and_, ge, gt, in_, le, optional
from torch import Tensor, nn

from genkit import build, levels
from genkit.data import drop_labels
from genkit.denoiser import Denoiser, Loss, Program, jvp
from genkit.keys import Key
from genkit.kinds import Batch, Context, setting, slot
from genkit_coupling.independent import coupling_slot, paired

STEEPEST = math.tan(math.pi / 2 - 1e-4)  # sigma / sigma_data at the greatest t: beyond it next to nothing is left of x0
WARMUP = 10_000  # steps, as published
COSINES = 16


@attrs.frozen(kw_only=True)
class Scm:
    """Continuous-time consistency: f moves against its change along a path.

    In TrigFlow's terms, t = arctan(sigma / sigma_data) and F of f = cos t x_t - sigma_data sin t F, a sample's loss is
    e^w(t) |F - F^- - g / (|g| + c)|^2 - w(t). F^- is F without gradient, w is learnt, and the tangent g = cos t df/dt
    is f's change along the path through x, with the paper's prior weight 1 / (sigma_data tan t) in it; see `tangent`.

    The path is told by where its slope at x points, which is what the slot `path` gives for level 0: for `same-noise`
    x0, which makes this sCT, and for `ode` a diffusion model's answer, with guidance if asked, which makes it sCD. The
    code speaks of f and sigma alone, so every parameterization will do: `trigflow`, or `edm` to start from the weights
    of a diffusion model, whose F is the negative of TrigFlow's.

    |g| is the norm, as in the paper, beside which c is small, or the root mean square, beside which it is sqrt(d) times
    larger, for d numbers per sample. The loss has the sum of squares or their mean accordingly; the paper's mean in
    either case is w moved by ln d.

    Source: Lu & Song 2024 (arXiv 2410.11081), section 4 and algorithm 1; rms: github.com/NVlabs/FastGen.
    """

    predicts: ClassVar[str] = "consistency"

    network: Any = slot("network", "unet", "F, the network that is trained")
    parameterization: Any = slot("parameterization", "trigflow", "how F becomes f")
    noise: Any = slot("noise", "lognormal", "the law of sigma (sCM: p_mean -1, p_std 1.4)", p_mean=-1.0, p_std=1.4)
    coupling: Any = coupling_slot()
    path: Any = slot("path", "same-noise", "what f shall be constant along: same-noise for sCT, ode for sCD")
    sampler: Any = slot("sampler", "consistency", "how the model is sampled", identity=False)
    warmup_steps: int | None = setting(
        None,
        "H: the derivative comes in by r = min(1, k / H); a tenth of the training, at most 10,000, if not given",
        check=optional(ge(0)),
    )
    normalise: str = setting(
        "norm", "what g is divided by, plus c: norm, rms, or none: g stays", check=in_(("norm", "rms", "none"))
    )
    c: float = setting(0.1, "keeps small g small; in units of data", check=gt(0))
    adaptive: bool = setting(True, "learn w(t); otherwise w = 0")
    label_drop: float = setting(
        0.0, "chance that a label is replaced by the null class, which guidance needs", check=and_(ge(0), le(1))
    )

    def build(self, context: Context) -> ScmProgram:
        return ScmProgram(self, context)


def tangent(f: Tensor, slope: Tensor, end: Tensor, sigma: Tensor, sigma_data: float, r: float = 1.0) -> Tensor:
    """g = ((1 - r) cos^2 t (f - end) + r df/dln sigma) / sin t, (B, *); with r = 1 it is cos t df/dt.

    The paper writes -cos^2 t (sigma_data F - v) - r (cos t sin t x_t + sigma_data cos t sin t dF/dt), v the path's
    velocity dx_t/dt. By v = (cos t x_t - end) / sin t and dln sigma = dt / (cos t sin t) that is the same. At r = 0
    the student learns to denoise.

    Args:
        f: What the student says, (B, *).
        slope: Its derivative with respect to ln sigma along the path, on which dx/dln sigma = x - end.
        end: Where the path's slope at x points, (B, *).
        sigma: Levels (B,).

    Source: Lu & Song 2024 (arXiv 2410.11081), section 4 and algorithm 1.
    """
    square = levels.expand(sigma.square() + sigma_data**2, f)
    blend = torch.lerp(sigma_data**2 / square * (f - end), slope, r)
    return blend * square.sqrt() / levels.expand(sigma, f)


class LogWeight(nn.Module):
    """w = sum over j of a_j cos(pi j u), u in [0, 1] the share of smaller levels under the law; a starts at 0.

    At its best e^-w is the mean of the squares that it weighs, so that all levels come to weigh alike.

    Source: Lu & Song 2024 (arXiv 2410.11081), section 4, after Karras et al. 2024 (arXiv 2312.02696); our basis.
    """

    def __init__(self) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(torch.zeros(COSINES))

    def forward(self, u: Tensor) -> Tensor:
        j = torch.arange(COSINES, device=u.device)
        return ((math.pi * j * u[:, None]).cos().to(self.coefficients.dtype) * self.coefficients).sum(1)


class ScmProgram(Program):
    """The student, and w where it is learnt."""

    def __init__(self, settings: Scm, context: Context) -> None:
        super().__init__()
        self.settings, self.spec = settings, context.spec
        self.student = Denoiser(
            build(settings.network, context),
            build(settings.parameterization, context),
            context.spec,
            build(settings.sampler, context),
        )
        self.noise, self.coupling = build(settings.noise, context), build(settings.coupling, context)
        self.path = build(settings.path, attrs.evolve(context, student=self.student))
        self.weight = LogWeight().to(context.device) if settings.adaptive else None
        tenth = min(WARMUP, context.total_steps // 10) if context.total_steps else WARMUP
        self.warmup = tenth if settings.warmup_steps is None else settings.warmup_steps

    def forward(self, batch: Batch, k: int, key: Key) -> Loss:
        """e^w |F - F^- - g / (|g| + c)|^2 - w + the coupling's price; the figure is |g| before it is divided."""
        x0, d = batch.x, self.spec.sigma_data
        cond = drop_labels(batch.cond, self.settings.label_drop, self.spec.classes, key)
        u = key.uniform("level", len(x0), x0.device)
        sigma = self.noise.icdf(u).clamp(max=d * STEEPEST).to(torch.promote_types(x0.dtype, torch.float32))
        eps, price = paired(self.coupling, x0, cond, key)
        x = levels.add_noise(x0, sigma, eps)
        with torch.no_grad():
            end = self.path(x, sigma, torch.zeros_like(sigma), x0, eps, cond)
        with key.reseeded(x0.device):  # both by one call, which a compiled student's masks need
            f, slope = jvp(lambda x, sigma: self.student(x, sigma, cond), (x, sigma), (x - end, sigma))
        r = min(1.0, k / self.warmup) if self.warmup else 1.0
        g, norm = self.normalised(tangent(f.detach(), slope.detach(), end, sigma, d, r))
        sine = levels.expand(sigma * (sigma.square() + d * d).rsqrt(), f)
        square = self.size((f - f.detach()) / (d * sine) + g)  # of -(F - F^-) + g
        w = torch.zeros_like(square) if self.weight is None else self.weight(u)
        return Loss(w.exp() * square - w + price, {"tangent": norm.mean()})

    def size(self, x: Tensor) -> Tensor:
        """|x|^2, a sum or a mean over a sample's numbers: (B, *) -> (B,)."""
        square = x.flatten(1).square()
        return square.sum(1) if self.settings.normalise == "norm" else square.mean(1)

    def normalised(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """g / (|g| + c), and |g|, (B,)."""
        norm = self.size(g).sqrt()
        return (g if self.settings.normalise == "none" else g / levels.expand(norm + self.settings.c, g)), norm
