"""MeanFlow: average velocities by the identity that they obey, and what its successors share with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import torch
from attrs.validators import and_, ge, in_, le
from torch import Tensor

from genkit import build
from genkit.data import drop_labels
from genkit.denoiser import Denoiser, Loss, Program, jvp
from genkit.errors import RecipeError
from genkit.kernel.recipe import Recipe
from genkit.keys import Key
from genkit.kinds import Batch, Context, setting, slot
from genkit.levels import expand
from genkit_coupling.independent import coupling_slot, paired
from genkit_flow.parameterization import FlowScalings, Told, two_times

Cond = Mapping[str, Tensor]


def average_velocity(
    network: torch.nn.Module, z: Tensor, t: Tensor, r: Tensor, cond: Cond, told: Told = two_times
) -> Tensor:
    """u(z, r, t): z - (t - r) u is where the path through z at time t is at time r; float32 or better."""
    out: Tensor = network(z, told(t, t - r), cond)
    return out.to(torch.promote_types(z.dtype, torch.float32))


def order_of(default: str) -> Any:
    """The setting of what is done with a pair drawn with r above t."""
    return setting(default, "of a pair with r above t: equal (r becomes t) or swap", check=in_(("equal", "swap")))


def ratio_of(default: float) -> Any:
    """The setting of how many samples have r < t."""
    return setting(default, "share of samples that keep their r; the others have r = t", check=and_(ge(0), le(1)))


@attrs.frozen(kw_only=True)
class MeanFlow:
    """Average velocities: u(z, r, t) towards v - (t - r) du/dt.

    z = (1 - t) x0 + t eps, v = eps - x0; du/dt is along (v, 1) of (z, t), in forward mode and without gradient. Some
    samples have r = t, for which this is flow matching. Times are sigma / (1 + sigma) of the laws, so that a lognormal
    law of sigma is the paper's logit-normal law of t, with the same numbers.

    With labels the target can be guided: v becomes omega v + kappa u(z, t, t | label) + (1 - omega - kappa)
    u(z, t, t | none), which is guidance of scale omega / (1 - kappa); then samples need no guidance of their own.

    Source: Geng et al. 2025 (arXiv 2505.13447), algorithm 1 and section 4.2; the published code for CIFAR-10
    (github.com/Gsunshine/py-meanflow), whose later settings are the defaults.
    """

    predicts: ClassVar[str] = "flow-map"

    network: Any = slot("network", "unet", "u, the network that is trained")
    noise: Any = slot("noise", "lognormal", "the law of t, as sigma (p_mean -0.6, p_std 1.6)", p_mean=-0.6, p_std=1.6)
    noise_r: Any = slot("noise", "lognormal", "the law of r, as sigma (p_mean -4, p_std 1.6)", p_mean=-4.0, p_std=1.6)
    loss: Any = slot("loss", "adaptive", "the metric of velocities")
    coupling: Any = coupling_slot()
    sampler: Any = slot("sampler", "flow-map", "how the model is sampled", identity=False)
    order: str = order_of("equal")
    ratio: float = ratio_of(0.75)
    label_drop: float = setting(0.0, "chance that a label is replaced by the null class", check=and_(ge(0), le(1)))
    omega: float = setting(1.0, "weight of v in a guided target")
    kappa: float = setting(0.0, "weight of the network's own velocity for the label in a guided target")
    interval: tuple[float, float] = setting((0.0, 1.0), "the times t between which targets are guided")

    def fits(self, recipe: Recipe) -> None:
        """Raises RecipeError where the network has no derivative in forward mode."""
        if not getattr(type(self.network), "jvp", True):
            raise RecipeError("network", "has no forward mode, by which du/dt is computed", "take another network")

    def build(self, context: Context) -> MeanFlowProgram:
        return MeanFlowProgram(self, context)


class MeanFlowProgram(Program):
    """The student, in the units of flow matching."""

    def __init__(self, settings: Any, context: Context) -> None:
        super().__init__()
        context = attrs.evolve(context, times=2)
        self.settings, self.context = settings, context
        self.guides = (settings.omega, settings.kappa) != (1, 0)
        if self.guides and not (settings.label_drop and context.spec.classes):
            what = "guidance needs labels, and a model that also knows none"
            raise RecipeError(
                "objective.omega", what, "use data with classes and label_drop = 0.1, or omega 1, kappa 0"
            )
        self.noise, self.noise_r = build(settings.noise, context), build(settings.noise_r, context)
        scalings, sampler = FlowScalings(told=two_times), build(settings.sampler, context)
        self.student = Denoiser(self.network(), scalings, context.spec, sampler)
        self.loss, self.coupling = build(settings.loss, context), build(settings.coupling, context)

    def network(self) -> torch.nn.Module:
        made: torch.nn.Module = build(self.settings.network, self.context)
        return made

    def outputs(self, z: Tensor, t: Tensor, r: Tensor, cond: Cond) -> Tensor:
        """u(z, r, t)."""
        return average_velocity(self.student.network, z, t, r, cond)

    def velocity(self, z: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """v(z, t) as the model has it, which is u(z, t, t)."""
        return self.outputs(z, t, t, cond)

    def times(self, count: int, device: torch.device, key: Key) -> tuple[Tensor, Tensor]:
        """t and r <= t, (B,), float32."""
        drawn = [key.uniform("level", count, device, i) for i in range(3)]
        t, r = (s / (1 + s) for s in (self.noise.icdf(drawn[0]), self.noise_r.icdf(drawn[1])))
        if self.settings.order == "swap":
            t, r = torch.maximum(t, r), torch.minimum(t, r)
        r = torch.where(drawn[2] < self.settings.ratio, torch.minimum(t, r), t)
        return t.float(), r.float()

    @torch.no_grad()
    def guided(self, v: Tensor, z: Tensor, t: Tensor, cond: Cond, key: Key) -> Tensor:
        """omega v + kappa v(z, t | label) + (1 - omega - kappa) v(z, t | none) for labelled samples in the interval."""
        omega, kappa = self.settings.omega, self.settings.kappa
        none = torch.full_like(cond["label"], self.context.spec.classes)
        found = []
        for label in (cond["label"], none):
            with key.reseeded(z.device):
                found.append(self.velocity(z, t, {**cond, "label": label}))
        first, last = self.settings.interval
        acts = (cond["label"] != none) & (t >= first) & (t <= last)
        return torch.where(expand(acts, v), omega * v + kappa * found[0] + (1 - omega - kappa) * found[1], v)

    def forward(self, batch: Batch, k: int, key: Key) -> Loss:
        """The metric of u and its target, and the coupling's price; the figure is u's mean squared error."""
        x0 = batch.x
        cond = drop_labels(batch.cond, self.settings.label_drop, self.context.spec.classes, key)
        t, r = self.times(len(x0), x0.device, key)
        eps, price = paired(self.coupling, x0, cond, key)
        v = eps - x0
        z = x0 + expand(t, x0) * v
        if self.guides:
            v = self.guided(v, z, t, cond, key)
        loss = self.compared(z, t, r, v, cond, k, key)
        return Loss(loss.values + price, loss.figures)

    def compared(self, z: Tensor, t: Tensor, r: Tensor, v: Tensor, cond: Cond, k: int, key: Key) -> Loss:
        """u beside v - (t - r) du/dt."""
        u, slope = self.along(v, z, t, r, cond, key)
        target = (v - expand(t - r, v) * slope).detach()
        return Loss(self.loss(u, target), {"error": (u.detach() - target).square().mean()})

    def along(self, v: Tensor, z: Tensor, t: Tensor, r: Tensor, cond: Cond, key: Key) -> tuple[Tensor, Tensor]:
        """What the network gives, and its derivative by t where z moves with v; of one call, so of the same masks."""
        with key.reseeded(z.device):
            direction = (v, torch.ones_like(t), torch.zeros_like(r))
            return jvp(lambda z, t, r: self.outputs(z, t, r, cond), (z, t, r), direction)
