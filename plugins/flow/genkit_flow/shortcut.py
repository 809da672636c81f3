"""Shortcut models: flow matching at the finest step, and each step by two of half its length."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import attrs
import torch
from attrs.validators import and_, ge, gt, in_, le, lt
from torch import Tensor

from genkit import build
from genkit.data import drop_labels
from genkit.denoiser import Denoiser, Loss, Program
from genkit.keys import Key
from genkit.kinds import Batch, Context, setting, slot
from genkit.levels import expand
from genkit_coupling.independent import coupling_slot, paired
from genkit_flow.meanflow import Cond, average_velocity
from genkit_flow.parameterization import FlowScalings


def halvings(t: Tensor, gap: Tensor) -> Tensor:
    """c_noise = (t, -log2(t - r)): how often the whole way is halved, (B, 2)."""
    return torch.stack([t, -gap.clamp(min=2.0**-24).log2()], 1)


@attrs.frozen(kw_only=True)
class Shortcut:
    """Shortcut models: a step of length d towards what two steps of length d / 2 come to.

    Steps are 1, 1/2, ..., 1 / finest, and start at multiples of their length. At the finest, u is trained by flow
    matching, towards eps - x0. Every eighth sample of the batch has a longer step instead, each as often: its target is
    the mean of u over the two halves, by an average of the weights, with states and target clipped. Here t = 0 is data;
    the paper's times are 1 - t, and its s is -u.

    Source: Frans et al. 2024 (arXiv 2410.12557), algorithm 1, and the published code
    (github.com/kvfrans/shortcut-models), which leaves 1e-5 of the noise in the data.
    """

    predicts: ClassVar[str] = "flow-map"

    network: Any = slot("network", "unet", "u, the network that is trained, told t and -log2 of the step's length")
    loss: Any = slot("loss", "l2", "the metric of velocities")
    coupling: Any = coupling_slot()
    sampler: Any = slot(
        "sampler", "flow-map", "how the model is sampled (spacing time)", identity=False, spacing="time"
    )
    finest: int = setting(128, "steps of the finest length in the whole way", check=in_([2**i for i in range(1, 17)]))
    every: int = setting(8, "one of so many samples learns from two half steps, the others from data", check=ge(1))
    decay: float = setting(
        0.999, "decay of the average of weights that half steps are taken with", check=and_(ge(0), lt(1))
    )
    clip: float = setting(4.0, "greatest number in states and targets of half steps, data units", check=gt(0))
    label_drop: float = setting(0.0, "chance that a label is replaced by the null class", check=and_(ge(0), le(1)))

    def build(self, context: Context) -> ShortcutProgram:
        return ShortcutProgram(self, context)


class ShortcutProgram(Program):
    """The student, and the average of its weights that half steps are taken with."""

    def __init__(self, settings: Shortcut, context: Context) -> None:
        super().__init__()
        context = attrs.evolve(context, times=2)
        self.settings, self.classes = settings, context.spec.classes
        scalings, sampler = FlowScalings(told=halvings), build(settings.sampler, context)
        self.student = Denoiser(build(settings.network, context), scalings, context.spec, sampler)
        self.slow = copy.deepcopy(self.student).requires_grad_(False)
        self.loss, self.coupling = build(settings.loss, context), build(settings.coupling, context)

    def started(self) -> None:
        self.slow.load_state_dict(self.student.state_dict())

    @torch.no_grad()
    def after_step(self, k: int) -> None:
        old: list[Tensor] = list(self.slow.parameters())
        new: list[Tensor] = list(self.student.parameters())
        torch._foreach_lerp_(old, new, 1 - self.settings.decay)

    def steps(self, halved: Tensor, device: torch.device, key: Key) -> tuple[Tensor, Tensor]:
        """t and the length of the step, (B,), float32; `halved` samples have a longer one than the finest."""
        places, lengths = (key.uniform("level", len(halved), device, i) for i in (0, 1))
        finest = self.settings.finest.bit_length() - 1
        count = torch.where(halved, 2.0 ** (lengths * finest).floor(), self.settings.finest)
        return ((places * count).floor() + 1).div(count).float(), (1 / count).float()

    def forward(self, batch: Batch, k: int, key: Key) -> Loss:
        """The metric of u and its target, and the coupling's price; the figure is u's mean squared error."""
        x0, size = batch.x, len(batch.x)
        cond = drop_labels(batch.cond, self.settings.label_drop, self.classes, key)
        first = key.rank * (key.size or size) + (key.rows.start if key.rows else 0)  # in the batch of all processes
        rows = slice(-first % self.settings.every, None, self.settings.every)
        halved = torch.zeros(size, dtype=torch.bool, device=x0.device)
        halved[rows] = True
        t, d = self.steps(halved, x0.device, key)
        eps, price = paired(self.coupling, x0, cond, key)
        target = eps - x0
        z = x0 + expand(t, x0) * target
        with key.reseeded(x0.device):
            u = average_velocity(self.student.network, z, t, t - d, cond, halvings)
        if halved[rows].numel():
            there = {name: value[rows] for name, value in cond.items()}
            target[rows] = self.two_halves(z[rows], t[rows], d[rows] / 2, there, key)
        return Loss(self.loss(u, target) + price, {"error": (u.detach() - target).square().mean()})

    @torch.no_grad()
    def two_halves(self, z: Tensor, t: Tensor, half: Tensor, cond: Cond, key: Key) -> Tensor:
        """The mean of u over a step of length `half` from t and over the next one."""
        limit, found = self.settings.clip, []
        for _ in range(2):
            with key.reseeded(z.device):
                found.append(average_velocity(self.slow.network, z, t, t - half, cond, halvings))
            z, t = (z - expand(half, z) * found[-1]).clamp(-limit, limit), t - half
        return ((found[0] + found[1]) / 2).clamp(-limit, limit)
