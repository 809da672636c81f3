"""The objective of inductive moment matching."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import torch
from attrs.validators import and_, ge, gt, le, optional
from torch import Tensor

from genkit import levels
from genkit.data import drop_labels
from genkit.denoiser import Loss
from genkit.errors import RecipeError
from genkit.kernel.recipe import Recipe
from genkit.keys import Key
from genkit.kinds import Batch, Context, setting, slot
from genkit_consistency.objective import Consistency, ConsistencyProgram
from genkit_coupling.independent import paired
from genkit_imm.times import level_of, time_of


@attrs.frozen(kw_only=True)
class Imm(Consistency):
    """Groups of samples whose jumps to s, from t and from r, are alike.

    M samples x_t of a group share levels s <= r < t. Its value is lambda(t, r) times the squared distance of means

        mean k(y, y') + mean k(z, z') - 2 mean k(y, z),  y = f(x_t, t, s),  z = f(x_r, r, s) of the teacher,

    over all pairs of the group, also of a sample with itself, in the space of the kernel

        k(x, y) = exp(-d(x / c, y / c) / h),  c = |c_out(t, s)|.

    With the default d, the norm but for 1e-4, k is a Laplace kernel. s is uniform in time sigma / (sigma + sigma_data)
    below t, and pairs that reach below s end there. With one sample a group, it is a consistency loss 2 (1 - k(y, z)).

    Source: Zhou et al. 2025 (arXiv 2503.07565), eq. 12 and algorithm 1, in its units of z = (1 - t) x.
    """

    predicts: ClassVar[str] = "flow-map"
    times: ClassVar[int] = 2

    network: Any = slot("network", "unet", "F, the network that is trained; it is told t and s")
    parameterization: Any = slot("parameterization", "imm", "how F becomes f")
    curriculum: Any = slot("curriculum", "constant", "N(k), for the pairs", s1=4096)
    noise: Any = slot("noise", "uniform-time", "the law of levels t")
    pairs: Any = slot("pairs", "imm", "how levels r < t are drawn")
    loss: Any = slot("loss", "pseudo-huber", "d, from which the kernel is made", c=1e-4)
    weighting: Any = slot("weighting", "imm", "lambda(t, r)")
    sampler: Any = slot("sampler", "flow-map", "how the model is sampled", identity=False)
    group: int = setting(
        4, "M, samples of a group, by which batch and micro_batch are divided", check=and_(ge(1), le(10**5))
    )
    bandwidth: float | None = setting(
        None, "h of the kernel; the numbers per sample if not given", check=optional(gt(0))
    )

    def fits(self, recipe: Recipe) -> None:
        """Raises RecipeError where a batch, or a micro-batch, would cut a group."""
        for name, size in (("batch_size", recipe.train.batch_size), ("micro_batch", recipe.train.micro_batch)):
            if size == "auto" or (size is not None and size % self.group):
                what = f"train.{name} = {size} {'may cut' if size == 'auto' else 'cuts'} a group of {self.group}"
                raise RecipeError("group", what, f"take a multiple of {self.group}")

    def build(self, context: Context) -> ImmProgram:
        return ImmProgram(self, attrs.evolve(context, times=2))


class ImmProgram(ConsistencyProgram):
    """The student, and the teacher where it is another model."""

    settings: Imm

    def grouped(self, n: int, x0: Tensor, key: Key) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """t, r, their gap as drawn, and s, (B,) each, alike within a group; r is no less than s.

        Raises:
            RecipeError: The batch of this process is not of whole groups.
        """
        m, d = self.settings.group, self.context.spec.sigma_data
        if len(x0) % m:
            what = f"{len(x0)} samples make no whole groups of {m}"
            raise RecipeError("objective.group", what, "let every process have a multiple of it")

        def shared(purpose: str, *i: int) -> Tensor:
            return key.uniform(purpose, len(x0), x0.device, *i)[::m].repeat_interleave(m)

        t, r, gap = self.pairs(self.noise, n, lambda *i: shared("level", *i))
        least = time_of(torch.tensor(self.context.levels.sigma_min, dtype=torch.float64), d)
        s = level_of(torch.lerp(least.to(x0.device), time_of(t.double(), d), shared("to")), d).to(t)
        return t, torch.maximum(r, s), gap, s

    def forward(self, batch: Batch, k: int, key: Key) -> Loss:
        """lambda(t, r) times the squared distance of its group, and the coupling's price, per sample.

        Both passes share x0, eps and dropout masks.
        """
        x0 = batch.x
        cond = drop_labels(batch.cond, self.settings.label_drop, self.context.spec.classes, key)
        n = self.points(k)
        t, r, gap, s = self.grouped(n, x0, key)
        eps, price = paired(self.coupling, x0, cond, key, n)
        x_t = levels.add_noise(x0, t, eps)
        with key.reseeded(x0.device):
            y = self.student(x_t, t, cond, s)
        with torch.no_grad():
            x_r = self.path(x_t, t, r, x0, eps, cond)
            with key.reseeded(x0.device):
                z = self.teacher(x_r, r, cond, s)
        c = self.student.parameterization(t, s).c_out.abs().clamp(min=1e-6)  # it is 0 where s rounds to t
        d = self.discrepancy(*(v / levels.expand(c, v) for v in (y, z)))
        return Loss(self.weighting(t, r, gap) * d + price, {"N": n, "discrepancy": d.detach().mean()})

    def discrepancy(self, y: Tensor, z: Tensor) -> Tensor:
        """The squared distance of the groups of y and z in the space of the kernel, (B,): each row owes its group's."""
        y, z = (v.reshape(-1, self.settings.group, *v.shape[1:]) for v in (y, z))
        value = self.likeness(y, y) + self.likeness(z, z) - 2 * self.likeness(y, z)
        return value.repeat_interleave(self.settings.group)

    def likeness(self, a: Tensor, b: Tensor) -> Tensor:
        """The mean of k over all pairs of two groups: (G, M, *), (G, M, *) -> (G,)."""
        rows, columns = a.repeat_interleave(a.shape[1], 1), b.repeat(1, b.shape[1], *(1,) * (b.ndim - 2))
        d: Tensor = self.loss(rows.flatten(0, 1), columns.flatten(0, 1))
        h = self.settings.bandwidth or self.context.spec.size
        return (-d / h).exp().reshape(len(a), -1).mean(1)
