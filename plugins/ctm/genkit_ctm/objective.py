"""The objective of consistency trajectory models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import attrs
import torch
from attrs.validators import and_, ge, le, optional
from torch import Tensor

from genkit import build, levels
from genkit.data import drop_labels
from genkit.denoiser import Denoiser, Loss, Program
from genkit.keys import Key
from genkit.kinds import At, Batch, Context, setting, slot
from genkit_ctm.parameterization import denoised


@attrs.frozen(kw_only=True)
class Ctm:
    """Jumps G(x, t, s) that agree with those from further down the path.

    x_t is followed along the path down to u, by n steps on the Karras grid. With s at or below u, and G' the teacher's
    jumps, the loss is

        lambda(t, u) d(G'(G(x_t, t, s), s, sigma_min), G'(G'(x_u, u, s), s, sigma_min)) + w e,

    e the denoising loss |g(x, t, t) - x0|^2 / c_out(t)^2 at levels and noise of its own, mean over dimensions. n is one
    number for the batch, drawn with a chance in proportion to n^power; t and s are drawn for each sample, evenly among
    the points that n leaves.

    In the paper w is the ratio of both terms' gradients in the last layer. That is a number of the whole batch, which
    its parts do not have, so here w is a setting. The paper's third term, adversarial, is left out.

    Source: Kim et al. 2023 (arXiv 2310.02279), section 3; how n, t and s are drawn: its published code.
    """

    predicts: ClassVar[str] = "flow-map"
    times: ClassVar[int] = 2

    network: Any = slot("network", "unet", "F, the network that is trained; it is told t and s")
    parameterization: Any = slot("parameterization", "ctm", "how F becomes G")
    noise: Any = slot("noise", "lognormal", "the law of levels of the denoising loss", p_mean=-1.2, p_std=1.2)
    path: Any = slot("path", "own-ode", "a step of the path from one point of the grid to the next below")
    loss: Any = slot("loss", "pseudo-huber", "the metric d, of clean data")
    weighting: Any = slot("weighting", "uniform", "lambda(t, u)")
    teacher: Any = slot("teacher", "ema", "whose weights jump from s, and from u", mode="fixed", mu0=0.999)
    sampler: Any = slot("sampler", "flow-map", "how the model is sampled", identity=False)
    points: int = setting(18, "N, points of the grid", check=and_(ge(2), le(10**4)))
    solver_steps: int | None = setting(None, "most steps from t to u; N - 1 if not given", check=optional(ge(1)))
    power: float = setting(1.0, "n steps are taken with a chance in proportion to n^power", check=and_(ge(0), le(10)))
    denoising: float = setting(1.0, "w, weight of the denoising loss", check=ge(0))
    label_drop: float = setting(0.0, "chance that a label is replaced by the null class", check=and_(ge(0), le(1)))

    def __attrs_post_init__(self) -> None:
        if self.solver_steps is not None and self.solver_steps >= self.points:
            raise ValueError(f"solver_steps: {self.points} points leave no room for {self.solver_steps} steps")

    def build(self, context: Context) -> CtmProgram:
        return CtmProgram(self, context)


class CtmProgram(Program):
    """The student, and the teacher where it is another model."""

    sigmas: Tensor

    def __init__(self, settings: Ctm, context: Context) -> None:
        super().__init__()
        self.settings, self.classes = settings, context.spec.classes
        self.student = Denoiser(
            build(settings.network, attrs.evolve(context, times=2)),
            build(settings.parameterization, attrs.evolve(context, times=2)),
            context.spec,
            build(settings.sampler, context),
        )
        context = attrs.evolve(context, student=self.student)
        self.noise, self.path = build(settings.noise, context), build(settings.path, context)
        self.loss, self.weighting = build(settings.loss, context), build(settings.weighting, context)
        self.teaching = build(settings.teacher, context)
        teacher: Callable[..., Tensor] = self.teaching.init(self.student)
        self.owned = (
            teacher.requires_grad_(False) if isinstance(teacher, Denoiser) and teacher is not self.student else None
        )
        self._teacher = [teacher]  # in a list, so that the student is not registered twice
        sigmas = context.levels.sigmas(settings.points).float().to(context.device)
        self.register_buffer("sigmas", sigmas, persistent=False)

    @property
    def teacher(self) -> Callable[..., Tensor]:
        """Who jumps from s, and from u."""
        return self._teacher[0]

    def steps(self, key: Key) -> int:
        """n, the number of steps from t to u: the same for the whole batch, in all its parts and processes."""
        most = self.settings.solver_steps or self.settings.points - 1
        chances = torch.arange(1, most + 1, dtype=torch.float64) ** self.settings.power
        u = attrs.evolve(key, rank=0).integer("steps") / 2**63
        return 1 + int((chances.cumsum(0)[:-1] <= u * chances.sum()).sum())

    def drawn(self, n: int, x0: Tensor, key: Key) -> tuple[Tensor, Tensor, Tensor]:
        """Indices of t, u and s on the grid, (B,) each: t from n up, u = t - n, s from 0 to u."""
        first, second = (key.uniform("level", len(x0), x0.device, *i) for i in ((), (1,)))
        t = n + (first * (len(self.sigmas) - n)).long()
        return t, t - n, (second * (t - n + 1)).long()

    def forward(self, batch: Batch, k: int, key: Key) -> Loss:
        """Both terms per sample; their figures are means over the batch."""
        x0 = batch.x
        cond = drop_labels(batch.cond, self.settings.label_drop, self.classes, key)
        distance, weight = self.consistency(x0, cond, k, key)
        denoising = self.denoising(x0, cond, key)
        values = weight * distance + self.settings.denoising * denoising
        return Loss(values, {"distance": distance.detach().mean(), "denoising": denoising.detach().mean()})

    def consistency(self, x0: Tensor, cond: Mapping[str, Tensor], k: int, key: Key) -> tuple[Tensor, Tensor]:
        """d and lambda(t, u), (B,) each."""
        n = self.steps(key)
        i, j, to = self.drawn(n, x0, key)
        t, u, s = (self.sigmas[index] for index in (i, j, to))
        eps = key.normal("eps", x0)
        x_t = levels.add_noise(x0, t, eps)
        with key.reseeded(x0.device):
            jumped = self.student(x_t, t, cond, s)
        with still(self.student):
            estimate = self.clean(jumped, s, cond, key)
        with torch.no_grad():
            x_u = x_t
            for below in range(n):
                with key.reseeded(x0.device):
                    x_u = self.path(x_u, self.sigmas[i - below], self.sigmas[i - below - 1], x0, eps, cond)
            with key.reseeded(x0.device):
                target = self.teacher(x_u, u, cond, s)
            target = self.clean(target, s, cond, key)
        d: Tensor = self.loss(estimate, target, At(t, u, k, len(self.sigmas)))
        return d, self.weighting(t, u, t - u)

    def clean(self, x: Tensor, s: Tensor, cond: Mapping[str, Tensor], key: Key) -> Tensor:
        """G'(x, s, sigma_min), the teacher's."""
        with key.reseeded(x.device):
            return self.teacher(x, s, cond, self.sigmas[:1].expand_as(s))

    def denoising(self, x0: Tensor, cond: Mapping[str, Tensor], key: Key) -> Tensor:
        """|g(x, t, t) - x0|^2 / c_out(t)^2, mean over dimensions, (B,): EDM's loss, of g."""
        t = self.noise.icdf(key.uniform("level", len(x0), x0.device, 2)).to(self.sigmas)
        x = levels.add_noise(x0, t, key.normal("eps", x0, 1))
        with key.reseeded(x0.device):
            error = (denoised(self.student, x, t, cond) - x0).flatten(1).square().mean(1)
        return error / self.student.parameterization(t, torch.zeros_like(t)).c_out.square()

    def started(self) -> None:
        if self.owned is not None:
            self.owned.load_state_dict(self.student.state_dict())

    def after_step(self, k: int) -> None:
        self.teaching.update(self.teacher, self.student, self.settings.points - 1)


@contextmanager
def still(model: Denoiser) -> Iterator[None]:
    """Within, a model's weights get no gradient, and what it is given does."""
    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)
