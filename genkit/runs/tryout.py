"""Components, two steps, samplers and metrics, tried before hours are spent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import torch

from genkit.errors import DataError, GenkitError, PluginError
from genkit.evaluation import images, sampling
from genkit.kernel import registry, resolving
from genkit.keys import Key
from genkit.kinds import At, Sampled
from genkit.runs.planning import Plan
from genkit.training import draws
from genkit.training.signals import Left
from genkit.training.state import State
from genkit.training.step import train

STEPS, FEW = 2, 64


def check(planned: Plan) -> None:
    """Try what a recipe asks for, at the size that it asks for; nothing of it is kept.

    Raises:
        PluginError: A component does something wrong: where it stands, what it is, who brings it, and what it owes.
        GenkitError: Anything else that would end the run later.
    """
    with planned.threads(), _told():
        state = State.of(planned.program(), planned.recipe.optimizer, planned.recipe.ema)
        with draws.none_outside_keys(planned.context.device):
            _try(planned, state)


def _try(planned: Plan, state: State) -> None:
    for key, component in resolving.components_of(planned.recipe.objective):
        _owed(key, component, planned, state)
    for _ in train(state, planned.data, planned.recipe.train):
        if state.k >= STEPS:
            break
    denoiser = state.program.student.eval()
    for n in planned.recipe.evaluate.steps:
        x0 = sampling.sample(denoiser, 2, n, planned.recipe.evaluate.seed)
    for metric in planned.recipe.metrics.values():
        _measure(planned, metric, planned.data.decode(x0))


@contextmanager
def _told() -> Iterator[None]:
    """Whatever a plugin's code raises as one line that names it; the lack of memory stays what it is."""
    try:
        yield
    except (Exception, SystemExit) as error:
        trace = error.__traceback__
        while trace and trace.tb_next:
            trace = trace.tb_next
        where = registry.culprit(trace.tb_frame if trace else None)
        if not where or _stays(error):
            raise
        raise PluginError(where, _in_words(error), "`genkit components show` tells more, --debug the place") from error


def _stays(e: BaseException) -> bool:
    """Whether an error tells enough by itself: genkit's own, a signal, or the lack of memory, also of a CPU's."""
    return isinstance(e, GenkitError | MemoryError | torch.OutOfMemoryError | Left) or "allocate memory" in str(e)


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _seeded(planned: Plan) -> AbstractContextManager[None]:
    """Within, the default generators may be drawn from: by weights that are made, and by dropout."""
    return Key(planned.recipe.train.seed).dropout(planned.context.device)


def _owed(key: tuple[str, ...], component: Any, planned: Plan, state: State) -> None:
    """Hold a component against the shapes that its kind owes."""
    info = registry.info_of(component)
    law = _OWED.get(info.kind)
    try:
        with _seeded(planned):
            fault = law(component, planned, state) if law else ""
    except (Exception, SystemExit) as error:
        if _stays(error):
            raise
        fault = _in_words(error)
    if fault:
        where = registry.named(info, ".".join(key) or info.kind)
        raise PluginError(where, fault, f"a {info.kind} owes: {registry.kinds()[info.kind].summary}")


def _curriculum(component: Any, planned: Plan, state: State) -> str:
    total = planned.recipe.train.steps
    points = {k: component(k, total) for k in (0, total // 2, total - 1)}
    wrong = {k: n for k, n in points.items() if not isinstance(n, int) or n < 2}
    return "".join(f"gave {n!r} at step {k}, no whole number from 2" for k, n in list(wrong.items())[:1])


def _loss(component: Any, planned: Plan, state: State) -> str:
    x, t = _two(planned)
    return _one_each(registry.build(component, planned.context)(x, x + 0.5, At(t, t / 2, 0, 11)))


def _weighting(component: Any, planned: Plan, state: State) -> str:
    t = _two(planned)[1]
    return _one_each(registry.build(component, planned.context)(t, t / 2, t / 2))


def _path(component: Any, planned: Plan, state: State) -> str:
    (x, t), cond = _two(planned), sampling.conditioning(state.program.student, 0, 2, 0, None)
    return _alike(registry.build(component, planned.context)(x, t, t / 2, x, x, cond), x)


@torch.no_grad()
def _network(component: Any, planned: Plan, state: State) -> str:
    (x, t), student = _two(planned), state.program.student
    if component != getattr(planned.recipe.objective, "network", None):
        return ""  # of a part that only its objective knows how to call
    cond = sampling.conditioning(student, 0, 2, 0, None)
    return _alike(student.network(x, student.parameterization(t, t / 2).c_noise, cond), x)


def _two(planned: Plan) -> tuple[torch.Tensor, torch.Tensor]:
    device = planned.context.device
    return torch.zeros(2, *planned.data.spec.shape, device=device), torch.ones(2, device=device)


def _alike(given: Any, x: torch.Tensor) -> str:
    shape = tuple(getattr(given, "shape", ()))
    return "" if shape == tuple(x.shape) else f"gave shape {shape} for {tuple(x.shape)}"


def _one_each(values: Any) -> str:
    if not isinstance(values, torch.Tensor) or values.shape != (2,) or not values.is_floating_point():
        given = f"{values.dtype} of shape {tuple(values.shape)}" if isinstance(values, torch.Tensor) else repr(values)
        return f"gave {given} for 2 samples, not one number each"
    return ""


_OWED: dict[str, Callable[[Any, Plan, State], str]] = {
    "curriculum": _curriculum, "loss": _loss, "weighting": _weighting, "path": _path, "network": _network
}  # fmt: skip


def _measure(planned: Plan, metric: Any, drawn: torch.Tensor) -> None:
    """Make figures of as few images as a metric takes, where these are few."""
    count = max(2, getattr(metric, "least", 2))
    if count > min(FEW, len(planned.data)):
        return
    with _seeded(planned):
        extract, accumulator = (registry.build(component, planned.context) for component in (metric.features, metric))
    real = images.block(planned.data, 0, count)
    fake = drawn.repeat(-(-count // len(drawn)), 1, 1, 1)[:count]
    for shown, is_real in ((real.x, True), (fake, False)):
        accumulator.update(Sampled(shown, extract(shown), {}), is_real)
    with suppress(DataError):  # too few for it, say
        accumulator.compute()
