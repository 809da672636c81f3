"""A training step, and training as a generator of steps."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from genkit.data import sources
from genkit.denoiser import Loss
from genkit.errors import Diverged, PluginError
from genkit.kernel.recipe import Train
from genkit.keys import Key
from genkit.kinds import Batch, Data
from genkit.training import processes
from genkit.training.state import State
from genkit.training.watching import WATCH

Figures = dict[str, Tensor | float]


def train(state: State, dataset: Data, settings: Train | None = None, **given: Any) -> Iterator[Figures]:
    """Take the steps from `state.k` to the last; after each, yields its figures as device scalars.

    Of a phase that rests they are those of its last turn. Nothing is read back from the device here: call `float` on a
    figure when you want to see it.

    Args:
        settings: The table [train]; or give its keys as keywords.
    """
    settings = settings or Train(**given)
    stream = sources.batches(dataset, settings.seed, state.k, settings.batch_size, processes.rank(), processes.world())
    state.program.train()
    figures: Figures = {}
    while state.k < settings.steps:
        WATCH.k, WATCH.stepping = state.k, True
        figures = figures | train_step(state, next(stream), settings)
        WATCH.stepping = False
        yield figures


def train_step(state: State, batch: Batch, settings: Train) -> Figures:
    """Take step k: one backward pass and update for each parameter group that acts, then the averages."""
    key = Key(settings.seed, state.k, processes.rank(), world=processes.world())
    figures: Figures = {}
    acting = {phase: o for phase, o in state.optimizers.items() if state.program.acts(phase, state.k)}
    for phase, optimizer in acting.items():
        state.program.zero_grad()
        figures |= _backward(state, batch, key.during(phase), settings)
        processes.average(p.grad for p in _trained(optimizer))
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * state.rule.lr_scale(state.k, settings.steps)
        optimizer.step()
    resting = {*_trained(*state.optimizers.values())} - {*_trained(*acting.values())}
    for average in state.averages.values():
        average.update(average.rule.beta(state.k, settings.batch_size), resting)
    state.program.after_step(state.k)
    state.k += 1
    return figures


def _trained(*optimizers: torch.optim.Optimizer) -> Iterator[Tensor]:
    """The weights that optimizers change."""
    return (p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"])


def _backward(state: State, batch: Batch, key: Key, settings: Train) -> Figures:
    """Gradients of the batch's mean loss, one micro-batch at a time."""
    size = len(batch.x)
    part = settings.micro_batch or size
    total: Tensor | float = 0.0
    figures: Figures = {}
    for micro, start in enumerate(range(0, size, part)):
        stop = min(start + part, size)
        here = key if part >= size else key.part(micro, start, stop, size)
        with torch.autocast(batch.x.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            loss: Loss = state.program(batch.rows(start, stop), state.k, here)
        if loss.values.shape != (stop - start,):
            raise PluginError(
                "objective",
                f"gave losses of shape {tuple(loss.values.shape)}",
                f"it owes one for each of {stop - start} samples",
            )
        share = loss.values.sum() / size
        share.backward()  # type: ignore[no-untyped-call]
        total = total + share.detach()
        for name, value in loss.figures.items():  # means over the batch, as the loss is
            mean = isinstance(value, Tensor) and part < size
            figures[name] = figures.get(name, 0.0) + value * ((stop - start) / size) if mean else value
    name = "loss" if len(state.optimizers) == 1 else f"loss_{key.phase}"
    bad = torch.where(torch.isfinite(total), torch.inf, float(state.k))  # type: ignore[arg-type]
    state.bad = torch.minimum(state.bad, bad)
    return {name: total, **figures}


def read_back(state: State, figures: Figures) -> dict[str, float]:
    """The figures of a step as numbers, means over all processes; waits for the device.

    Raises:
        Diverged: A loss has not been finite, or a weight no longer is, on any process; names the step.
    """
    weights = [p.isfinite().all() for p in state.program.student.parameters()]
    broken = torch.where(torch.stack(weights).all(), torch.inf, float(state.k - 1))
    bad = torch.minimum(state.bad, broken).item()
    everyones = processes.gather((bad, {name: float(value) for name, value in figures.items()}))
    if (k := min(bad for bad, _ in everyones)) != float("inf"):
        raise Diverged(
            f"step {int(k)}",
            "the loss is not finite, or a weight is not",
            "lower optimizer.lr, or clip: optimizer.clip = 1.0",
        )
    return {name: statistics.fmean(one[name] for _, one in everyones if name in one) for name in everyones[0][1]}
