"""A recipe's step, measured: its cost, its parts, its floor, and what a training of full length comes to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import torch
from torch.utils.flop_counter import FlopCounterMode

import genkit
from genkit import keys
from genkit.data import batches
from genkit.kernel import discovery
from genkit.runs.planning import Plan
from genkit.training.state import State
from genkit.training.step import train, train_step
from genkit_bench import chips, memory, pairing, parts, passes

WARM = 2  # steps that allocate, and compile
ROUNDS = 10
ENOUGH, LONG = 0.5, 5.0  # seconds of steps that tell what one takes, and of first ones that do
DEVICES = (1, 8, 64)


@attrs.define
class Bench:
    """A plan with its state, warmed up: three ways to spend a step's time, which can be called in turn."""

    planned: Plan
    state: State
    step: Callable[[], object]
    floor: Callable[[], None]
    flops: int

    @classmethod
    def of(cls, planned: Plan) -> Bench:
        """Take the first steps of a plan, and note what its networks are asked in one of them."""
        state, settings = planned.state(), planned.recipe.train
        steps = _endless(planned, state)
        for _ in range(WARM):
            next(steps)
        counter = FlopCounterMode(display=False)
        with passes.recorded() as made, counter:
            next(steps)
        floor = passes.replay(state.program, made, settings.compile)
        for _ in range(WARM):
            floor()
        return cls(planned, state, lambda: next(steps), floor, counter.get_total_flops())

    def lean(self) -> None:
        """The floor with optimizers and averages."""
        self.floor()
        for optimizer in self.state.optimizers.values():
            optimizer.step()
        for average in self.state.averages.values():
            average.update(average.rule.beta(self.state.k, self.planned.recipe.train.batch_size))

    @property
    def sides(self) -> dict[str, Callable[[], object]]:
        """What is timed in turn."""
        return {"step": self.step, "floor": self.floor, "lean": self.lean}

    def taken(self) -> dict[str, int]:
        """Bytes that a step, and its floor, take on top of what is held, from no gradients on."""
        found = {}
        for name in ("step", "floor"):
            self.state.program.zero_grad()
            found[name] = memory.taken(self.sides[name], self.planned.context.device)
        return found

    def split(self, steps: int, trace: Path | None = None) -> dict[str, float]:
        """Seconds of each part of a step, the mean of some.

        Args:
            trace: A file for what a profiler sees of them, as Chrome's and Perfetto's viewers read it.
        """
        told = parts.Parts(self.planned.context.device)
        if trace is None:
            self._split(told, steps)
        else:
            with memory.profiled() as profile:
                self._split(told, steps)
                pairing.wait(told.device)
            profile.export_chrome_trace(str(trace))
        return {name: seconds / steps for name, seconds in told.seconds().items()}

    def _split(self, told: parts.Parts, steps: int) -> None:
        state, settings, hook = self.state, self.planned.recipe.train, discovery.installed().manager.hook
        stream = batches(self.planned.data, settings.seed, state.k, settings.batch_size)
        with parts.told(told, state, bool(settings.compile)):
            for _ in range(steps):
                with told.part("rest"):
                    with told.part("data"):
                        batch = next(stream)
                    figures = train_step(state, batch, settings)
                    with told.part("hooks"):
                        hook.genkit_step_end(state=state, figures=figures, key=keys.Key(settings.seed, state.k - 1))


def step_seconds(planned: Plan) -> float:
    """What a step takes, uncompiled: the median of some, but for the first ones, which allocate. Nothing is kept.

    Where the first ones alone take seconds, the last of these.
    """
    device, times = planned.context.device, list[float]()
    with planned.settled(), torch.compiler.set_stance("force_eager"):
        steps = _endless(planned, planned.state())
        while sum(times[WARM:]) < ENOUGH and sum(times[:WARM]) < LONG:
            times += [row["step"] for row in pairing.in_turn({"step": lambda: next(steps)}, 1, 1, device)]
    return statistics.median(times[WARM:] or times[-1:])


def _endless(planned: Plan, state: State) -> Iterator[object]:
    """Steps of a training, from its beginning again once it is through."""
    while True:
        yield from train(state, planned.data, planned.recipe.train)
        state.k = 0


def measure(
    planned: Plan,
    steps: int = 30,
    watts: float | None = None,
    trace: Path | None = None,
    clock: Callable[[], float] = time.perf_counter,
    rounds: int = ROUNDS,
) -> dict[str, Any]:
    """What a step of a plan costs, as plain numbers: seconds, bytes, operations.

    Args:
        steps: Of each side: whole steps, their floor, and the floor with optimizer and average.
        watts: What a device draws; without it a card is asked, and where none tells, energy is left out.
        rounds: In how many parts the steps of all sides take turns: the more, the narrower are intervals.
        clock: `time.process_time` on a CPU that is busy otherwise; the ratio is then that of CPU time.
    """
    device = planned.context.device
    with planned.settled() as threads:
        made = Bench.of(planned)
        each = max(1, steps // rounds)
        times = pairing.in_turn(made.sides, steps // each, each, device, clock)
        watts = watts or _drawn(device)
        split = made.split(max(1, steps // 3), trace)
        taken = made.taken()
    middle = {name: pairing.interval([row[name] for row in times]).median for name in made.sides}
    return {
        **_about(planned, made, threads),
        "steps": steps // each * each,
        "rounds": len(times),
        "seconds": middle,
        "ratio": pairing.ratio(times, "step", "floor")._asdict(),
        "bookkeeping": pairing.interval([row["step"] - row["lean"] for row in times])._asdict(),
        "parts": split,
        "memory": {"held": memory.held(made.state), **taken},
        **_rates(planned, made.flops, middle["step"], watts),
    }


def _about(planned: Plan, made: Bench, threads: int) -> dict[str, Any]:
    settings = planned.recipe.train
    count = sum(p.numel() for p in made.state.program.student.parameters())
    return {
        "recipe": planned.recipe.name,
        "device": chips.name(planned.context.device),
        "versions": {"genkit": genkit.__version__, "torch": torch.__version__},
        "threads": threads,
        "precision": settings.precision,
        "compile": settings.compile,
        "batch_size": settings.batch_size,
        "parameters": count,
        "bytes_per_parameter": memory.held(made.state) / count,
        "flops_per_image": made.flops / settings.batch_size,
    }


def _rates(planned: Plan, flops: int, seconds: float, watts: float | None) -> dict[str, Any]:
    """Images a second, the share of the chip's peak, and a training of full length on devices that scale perfectly."""
    settings, device = planned.recipe.train, planned.context.device
    peak = chips.peak(chips.name(device), settings.precision)
    hours = settings.steps * seconds / 3600
    return {
        "images_per_second": settings.batch_size / seconds,
        "peak": peak,
        "share_of_peak": flops / seconds / peak if peak else None,
        "watts": watts,
        "kwh": hours * watts / 1000 if watts else None,
        "hours": {n: hours / n for n in DEVICES},
    }


def _drawn(device: str) -> float | None:
    """What a card draws at the moment, in watts; None where it, or its library, does not tell."""
    if not device.startswith("cuda"):
        return None
    try:
        return torch.cuda.power_draw(device) / 1000
    except (ModuleNotFoundError, RuntimeError):
        return None
