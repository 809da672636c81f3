"""What a training step costs beyond network, optimizer and average: CPU milliseconds, and as a ratio.

    OMP_NUM_THREADS=1 python benchmarks/bookkeeping.py [RECIPE] [key=value ...]

Both sides are taken in turn within one process on the same state: genkit's own step, and the bare passes
(student forward, teacher forward, backward, optimizer, average) on tensors made beforehand.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch

from genkit import levels, load_recipe
from genkit.keys import Key
from genkit.runs import planning
from genkit.training.step import train


def bare(planned: planning.Plan, state: object) -> Callable[[], None]:
    """A step's unavoidable part, with levels, noise and data at hand."""
    program, settings = state.program, planned.recipe.train
    key = Key(0, 0)
    x0 = planned.data.batch(torch.arange(settings.batch_size) % len(planned.data), key).x.float() / 127.5 - 1
    grid = levels.grid(planned.context.levels, 161, program.noise)
    i = grid.draw(key.uniform("level", len(x0)))
    r, t, eps = grid.sigmas[i], grid.sigmas[i + 1], key.normal("eps", x0)
    x_t, x_r, weight = levels.add_noise(x0, t, eps), levels.add_noise(x0, r, eps), 1 / grid.gaps[i]
    (optimizer,) = state.optimizers.values()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        f_t = program.student(x_t, t)
        with torch.no_grad():
            f_r = program.student(x_r, r)
        (weight * program.loss(f_t, f_r)).mean().backward()
        optimizer.step()
        state.average.update(0.99)

    return step


def milliseconds(step: Callable[[], object], count: int) -> float:
    begun = time.process_time()
    for _ in range(count):
        step()
    return 1000 * (time.process_time() - begun) / count


def main() -> None:
    recipe = load_recipe(sys.argv[1] if len(sys.argv) > 1 else "ict_digits", sys.argv[2:])
    torch.set_num_threads(1)
    planned = planning.plan(recipe, device="cpu")
    state = planned.state()
    steps = train(state, planned.data, recipe.train)
    floor = bare(planned, state)
    rounds = []
    for n in range(15):
        pair = [(lambda: next(steps), 20), (floor, 20)]
        measured = [milliseconds(*side) for side in (pair if n % 2 else pair[::-1])]
        rounds.append(measured if n % 2 else measured[::-1])
    whole, alone = (statistics.median(side) for side in zip(*rounds[2:], strict=True))
    extra = statistics.median(a - b for a, b in rounds[2:])
    print(f"step {whole:.2f} ms, bare passes {alone:.2f} ms, bookkeeping {extra:.2f} ms, ratio {whole / alone:.3f}")


main()
