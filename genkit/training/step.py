"""A training step, and training as a generator of steps."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.amp import GradScaler

from genkit.data import sources
from genkit.denoiser import Loss
from genkit.errors import Diverged, PluginError, lacks_memory
from genkit.kernel.recipe import Train
from genkit.keys import Key
from genkit.kinds import Batch, Data
from genkit.training import processes
from genkit.training.state import State
from genkit.training.watching import WATCH

Figures = dict[str, Tensor | float]
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
LEAST = 2.0**-24  # fp16's smallest number: a scale below it means that no step was taken for dozens
UNSCALED = GradScaler("cpu", enabled=False)  # of all but fp16: gives losses and takes steps as they are


def train(state: State, dataset: Data, settings: Train | None = None, **given: Any) -> Iterator[Figures]:
    """Take the steps from `state.k` to the last; after each, yields its figures as device scalars.

    Of a phase that rests they are those of its last turn. Nothing is read back from the device here: call `float` on a
    figure when you want to see it.

    Args:
        settings: The table [train]; or give its keys as keywords.
    """
    settings = fitted(state, dataset, settings or Train(**given))
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
    scaler = state.scaler if settings.precision == "fp16" else UNSCALED
    figures, every = Figures(), state.optimizers
    acting = {phase: o for phase, o in every.items() if state.program.acts(phase, state.k)}
    for phase, optimizer in acting.items():
        state.program.zero_grad()
        if settings.compile:  # CUDA graphs may write over what they gave before
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        figures |= _backward(state, batch, key.during(phase), settings, scaler)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * state.rule.lr_scale(state.k, settings.steps)
        scaler.unscale_(optimizer)  # before it clips
        scaler.step(optimizer)  # leaves weights and moments alone where a gradient is not finite
        scaler.update()
    resting = {*_trained(*every.values())} - {*_trained(*acting.values())} if len(acting) < len(every) else ()
    for average in state.averages.values():
        average.update(average.rule.beta(state.k, settings.batch_size), resting)
    state.program.after_step(state.k)
    state.k += 1
    return figures


def fitted(state: State, dataset: Data, settings: Train, recorded: int | None = None) -> Train:
    """The settings with a number for `micro_batch = "auto"`: the one that is recorded, else the largest that fits.

    It is a process's share of the batch, halved until memory lasts for the backward pass beside gradients and two
    moments; of step k, and nothing of it is kept. Where the system ends what asks for too much, as on a CPU, none is
    halved.
    """
    if settings.micro_batch != "auto":
        return settings
    share, known = settings.batch_size // processes.world(), state.micro_batch or recorded
    state.micro_batch = known or min(processes.gather(_largest(state, dataset, settings, share)))
    return attrs.evolve(settings, micro_batch=state.micro_batch)


def _largest(state: State, dataset: Data, settings: Train, part: int) -> int:
    key, whole = Key(settings.seed, state.k), attrs.evolve(settings, micro_batch=None)
    alone = attrs.evolve(state, calls=dict.fromkeys(state.calls, state.program))  # others may try another size
    try:
        beside = [torch.empty_like(p) for p in [*_trained(*state.optimizers.values())] * 3]
        for phase in state.optimizers:
            batch = next(sources.batches(dataset, settings.seed, state.k, part))
            _backward(alone, batch, key.during(phase), whole, UNSCALED)
        del beside
        return part
    except Exception as error:
        if part == 1 or not lacks_memory(error):
            raise
    finally:
        state.program.zero_grad()
    return _largest(state, dataset, settings, -(-part // 2))


def _trained(*optimizers: torch.optim.Optimizer) -> Iterator[Tensor]:
    """The weights that optimizers change."""
    return (p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"])


def _backward(state: State, batch: Batch, key: Key, settings: Train, scaler: GradScaler) -> Figures:
    """Gradients of the batch's mean loss, one micro-batch at a time, those of all processes."""
    size, call, cast = len(batch.x), state.calls[key.phase], AUTOCAST.get(settings.precision)
    part = int(settings.micro_batch or size)
    total: Tensor | float = 0.0
    figures: Figures = {}
    for micro, start in enumerate(range(0, size, part)):
        stop = min(start + part, size)
        here = key if part >= size else key.part(micro, start, stop, size)
        with processes.passes(call, last=stop == size):
            with torch.autocast(batch.x.device.type, cast, enabled=cast is not None):
                loss: Loss = call(batch.rows(start, stop), state.k, here)
            if (shape := tuple(loss.values.shape)) != (stop - start,):
                owed = f"it owes one for each of {stop - start} samples"
                raise PluginError("objective", f"gave losses of shape {shape}", owed)
            share = loss.values.sum() / size
            scaler.scale(share).backward()  # type: ignore[no-untyped-call]
        total = total + share.detach()
        for name, value in loss.figures.items():  # means over the batch, as the loss is
            mean = isinstance(value, Tensor) and part < size
            figures[name] = figures.get(name, 0.0) + value * ((stop - start) / size) if mean else value
    name = "loss" if len(state.optimizers) == 1 else f"loss_{key.phase}"
    fine = torch.isfinite(total) & (scaler.scale(torch.ones_like(state.bad)) >= LEAST)  # type: ignore[arg-type]
    state.bad = torch.minimum(state.bad, torch.where(fine, torch.inf, float(state.k)))
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
            "the loss is not finite, or a weight is not, or no gradient is",
            "lower optimizer.lr, or clip: optimizer.clip = 1.0",
        )
    return {name: statistics.fmean(one[name] for _, one in everyones if name in one) for name in everyones[0][1]}
