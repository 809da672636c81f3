"""The consistency objective: CT, CD and iCT are choices of its slots."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor

from genkit import build, levels
from genkit.data import drop_labels
from genkit.denoiser import Denoiser, Loss, Program
from genkit.errors import PluginError, RecipeError
from genkit.kernel import registry
from genkit.keys import Key
from genkit.kinds import At, Batch, Context, setting, slot
from genkit_coupling.independent import coupling_slot, paired


@attrs.frozen(kw_only=True)
class Consistency:
    """Consistency matching lambda(t, r) d(f(x_t, t), f(x_r, r)) at neighbouring levels r < t.

    Its defaults are iCT's choices; with those of `ct` it is consistency training as first published, and
    with a path that follows a diffusion model's ODE it is consistency distillation. Where pairs have r = 0,
    f is the identity: the target is x_r.

    Source: Song et al. 2023 (arXiv 2303.01469), eqs. 7 and 10; Song & Dhariwal 2023 (arXiv 2310.14189).
    """

    predicts: ClassVar[str] = "consistency"

    network: Any = slot("network", "unet", "F, the network that is trained")
    parameterization: Any = slot("parameterization", "boundary", "how F becomes f")
    curriculum: Any = slot("curriculum", "exponential", "N(k), the number of grid points")
    noise: Any = slot("noise", "lognormal", "the law of levels")
    pairs: Any = slot("pairs", "grid", "how levels r < t are drawn", before="genkit-lab-consistency/grid@1")
    coupling: Any = coupling_slot()
    path: Any = slot("path", "same-noise", "how x_r is made from x_t")
    loss: Any = slot("loss", "pseudo-huber", "the metric d")
    weighting: Any = slot("weighting", "inverse-step", "lambda(t, r)")
    teacher: Any = slot("teacher", "stop-grad", "whose weights answer at r")
    sampler: Any = slot("sampler", "consistency", "how the model is sampled", identity=False)
    label_drop: float = setting(
        0.0,
        "chance that a label is replaced by the null class",
        check=attrs.validators.and_(attrs.validators.ge(0), attrs.validators.le(1)),
    )

    def build(self, context: Context) -> ConsistencyProgram:
        """The program.

        Raises:
            RecipeError: The context does not tell how long training is to last, which N(k) needs.
        """
        if context.total_steps < 1:
            raise RecipeError(
                "context.total_steps", "is not told, and N(k) depends on it", "give Context(total_steps=...)"
            )
        return ConsistencyProgram(self, context)


class ConsistencyProgram(Program):
    """The student, and the teacher where it is another model."""

    def __init__(self, settings: Consistency, context: Context) -> None:
        super().__init__()
        self.settings, self.context = settings, context
        self.student = Denoiser(
            build(settings.network, context),
            build(settings.parameterization, context),
            context.spec,
            build(settings.sampler, context),
        )
        context = attrs.evolve(context, student=self.student)
        self.noise, self.pairs = build(settings.noise, context), build(settings.pairs, context)
        self.coupling, self.path = build(settings.coupling, context), build(settings.path, context)
        self.loss, self.weighting = build(settings.loss, context), build(settings.weighting, context)
        self.teaching = build(settings.teacher, context)
        teacher: Callable[..., Tensor] = self.teaching.init(self.student)
        self.owned = (
            teacher.requires_grad_(False) if isinstance(teacher, Denoiser) and teacher is not self.student else None
        )
        self._teacher = [teacher]  # in a list, so that the student is not registered twice

    @property
    def teacher(self) -> Callable[..., Tensor]:
        """Who answers at r."""
        return self._teacher[0]

    def points(self, k: int) -> int:
        """N(k)."""
        n: int = self.settings.curriculum(k, self.context.total_steps)
        return n

    def drawn(self, n: int, x0: Tensor, key: Key) -> tuple[Tensor, Tensor, Tensor]:
        """t, r and their gap, (B,) each.

        Raises:
            PluginError: They are not.
        """
        found: tuple[Tensor, Tensor, Tensor] = self.pairs(
            self.noise, n, lambda *i: key.uniform("level", len(x0), x0.device, *i)
        )
        shapes = [tuple(level.shape) for level in found]
        if shapes != [(len(x0),)] * 3:
            where = registry.named(registry.info_of(self.settings.pairs), "pairs")
            raise PluginError(where, f"gave t, r and gap of shapes {shapes}", f"owed are {len(x0)} of each")
        return found

    def answer(self, x_r: Tensor, t: Tensor, r: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """f(x_r, r), which is x_r itself at r = 0; networks, which are told ln r, are asked there at t, in vain."""
        f_r = self.teacher(x_r, torch.where(r > 0, r, t), cond)
        return torch.where(levels.expand(r > 0, x_r), f_r, x_r)

    def forward(self, batch: Batch, k: int, key: Key) -> Loss:
        """lambda(t, r) d(f(x_t, t), f(x_r, r)) + the coupling's price; both passes share x0, eps and dropout masks."""
        x0 = batch.x
        cond = drop_labels(batch.cond, self.settings.label_drop, self.context.spec.classes, key)
        n = self.points(k)
        t, r, gap = self.drawn(n, x0, key)
        eps, price = paired(self.coupling, x0, cond, key, n)
        x_t = levels.add_noise(x0, t, eps)
        with key.reseeded(x0.device):
            f_t = self.student(x_t, t, cond)
        with torch.no_grad():
            x_r = self.path(x_t, t, r, x0, eps, cond)
            with key.reseeded(x0.device):
                f_r = self.answer(x_r, t, r, cond)
        d = self.loss(f_t, f_r, At(t, r, k, n))
        if d.shape != t.shape:
            raise PluginError("loss", f"gave distances of shape {tuple(d.shape)}", f"it owes {len(t)}, one per sample")
        return Loss(self.weighting(t, r, gap) * d + price, {"N": n, "distance": d.detach().mean()})

    def started(self) -> None:
        if self.owned is not None:
            self.owned.load_state_dict(self.student.state_dict())

    def after_step(self, k: int) -> None:
        self.teaching.update(self.teacher, self.student, self.points(k) - 1)
