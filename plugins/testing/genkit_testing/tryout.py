"""Components, two steps, samplers and metrics, tried before hours are spent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from typing import Any, NamedTuple

import attrs
import torch
from torch import Tensor

from genkit.denoiser import Program
from genkit.errors import DataError, PluginError
from genkit.evaluation import images, sampling
from genkit.kernel import blame, registry, resolving
from genkit.keys import Key
from genkit.kinds import At, Sampled
from genkit.runs.planning import Plan
from genkit.training.state import State
from genkit.training.step import train
from genkit_testing import stray_draws

STEPS, FEW = 2, 64
_U = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)


@blame.blamed()
def check(planned: Plan) -> None:
    """Try what a recipe asks for, at the size that it asks for; nothing of it is kept.

    Raises:
        PluginError: A component does something wrong: where it stands, what it is, who brings it, and what it owes.
        GenkitError: Anything else that would end the run later.
    """
    with planned.settled():
        program = planned.program()
        planned = attrs.evolve(planned, context=attrs.evolve(planned.context, student=program.student))
        with stray_draws.none_outside_keys(planned.context.device):
            _try(planned, program)


def _try(planned: Plan, program: Program) -> None:
    recipe, device = planned.recipe, planned.context.device
    x, t = torch.zeros(2, *planned.data.spec.shape, device=device), torch.ones(2, device=device)
    small = _Small(planned, program, x, t, sampling.conditioning(program.student, 0, 2, 0, None))
    aside = {"optimizer": recipe.optimizer, "ema": recipe.ema, "averages": recipe.averages}
    parts = [*resolving.components_of(recipe.objective), *resolving.components_of(aside)]
    for kind, law in _OWED.items():
        for key, component in (part for part in parts if registry.info_of(part[1]).kind == kind):
            if kind != "network" or key == ("network",):  # others only their objective can call
                _hold(planned, component, law, small, ".".join(key))
    state = State.of(program, recipe.optimizer, recipe.ema, recipe.averages)
    for _ in train(state, planned.data, recipe.train):
        if state.k >= STEPS:
            break
    program.student.eval()
    for metric in recipe.metrics.values():
        _measure(planned, metric, planned.data.decode(small.drawn(recipe.evaluate.steps[-1])))


class _Small(NamedTuple):
    """What little components are tried with: two samples, zeros, at level 1."""

    planned: Plan
    program: Program
    x: Tensor
    t: Tensor
    cond: Mapping[str, Tensor]

    def drawn(self, n: int) -> Tensor:
        """Samples of the student in n steps."""
        return sampling.sample(self.program.student, 2, n, self.planned.recipe.evaluate.seed)


def _seeded(planned: Plan) -> AbstractContextManager[None]:
    """Within, the default generators may be drawn from: by weights that are made, and by dropout."""
    return Key(planned.recipe.train.seed).reseeded(planned.context.device)


def _hold(planned: Plan, component: Any, law: _Law, small: Any, key: str = "") -> None:
    """Hold a component against a law, which gives what is wrong, of what its kind owes.

    Raises:
        PluginError: Something is, or it raises.
    """
    info = registry.info_of(component)
    where, duty = registry.named(info, key), f"a {info.kind} owes: {registry.kinds()[info.kind].summary}"
    with blame.blamed(where, duty), stray_draws.none_elsewhere(where), _seeded(planned), torch.no_grad():
        fault = law(registry.build(component, planned.context), small)
    if fault:
        raise PluginError(where, fault, duty)


def _curriculum(made: Any, small: _Small) -> str:
    total = small.planned.recipe.train.steps
    points = {k: made(k, total) for k in (0, total // 2, total - 1)}
    wrong = {k: n for k, n in points.items() if not isinstance(n, int) or n < 2}
    return "".join(f"gave {n!r} at step {k}, no whole number from 2" for k, n in list(wrong.items())[:1])


def _network(made: Any, small: _Small) -> str:
    student = small.program.student  # with its network, which may have been given other settings than its component
    return _alike(student.network(small.x, student.parameterization(small.t, small.t / 2).c_noise, small.cond), small.x)


def _sampler(made: Any, small: _Small) -> str:
    steps = small.planned.recipe.evaluate.steps
    return next(filter(None, (_alike(small.drawn(n), small.x) or _number(made.nfe(n)) for n in steps)), "")


def _optimizer(made: Any, small: _Small) -> str:
    given = made.optimizer(list(small.program.student.named_parameters()))
    right = isinstance(given, torch.optim.Optimizer)
    return _number(made.lr_scale(0, small.planned.recipe.train.steps)) if right else f"gave {given!r}, no optimizer"


def _alike(given: Any, x: Tensor) -> str:
    shape = tuple(getattr(given, "shape", ()))
    return "" if shape == tuple(x.shape) else f"gave shape {shape} for {tuple(x.shape)}"


def _number(given: Any) -> str:
    return "" if isinstance(given, int | float) else f"gave {given!r}, no number"


def _one_each(*given: Any) -> str:
    for values in given:
        if not isinstance(values, Tensor) or values.shape != (2,) or not values.is_floating_point():
            named = f"{values.dtype} of shape {tuple(values.shape)}" if isinstance(values, Tensor) else repr(values)
            return f"gave {named} for 2 samples, not one number each"
    return ""


_Law = Callable[[Any, Any], str]
_OWED: dict[str, _Law] = {
    "parameterization": lambda scalings, s: _one_each(*scalings(s.t, s.t / 2)[:3]),  # the network needs it
    "curriculum": _curriculum,
    "noise": lambda noise, s: _alike(noise.cdf(_U), _U) or _alike(noise.icdf(_U), _U),
    "loss": lambda d, s: _one_each(d(s.x, s.x + 0.5, At(s.t, s.t / 2, 0, 11))),
    "weighting": lambda weight, s: _one_each(weight(s.t, s.t / 2, s.t / 2)),
    "coupling": lambda coupling, s: _alike(coupling(s.x, s.x, s.cond, 11).eps, s.x),
    "path": lambda path, s: _alike(path(s.x, s.t, s.t / 2, s.x, s.x, s.cond), s.x),
    "network": _network,
    "sampler": _sampler,
    "optimizer": _optimizer,
    "ema": lambda ema, s: _number(ema.beta(0, s.planned.recipe.train.batch_size)),
}


def _measure(planned: Plan, metric: Any, drawn: Tensor) -> None:
    """Make figures of as few images as a metric takes, where these are few."""
    count = max(2, getattr(metric, "least", 2))
    if count > min(FEW, len(planned.data)):
        return
    with _seeded(planned):
        extract = registry.build(metric.features, planned.context)
    real = images.block(planned.data, 0, count)
    fake = drawn.repeat(-(-count // len(drawn)), 1, 1, 1)[:count]
    seen = [Sampled(x, extract(x), {}) for x in (real.x, fake)]

    def law(accumulator: Any, small: Any) -> str:
        accumulator.update(seen[0], True)
        accumulator.update(seen[1], False)
        with suppress(DataError):  # too few for it, say
            return "".join(map(_number, accumulator.compute().values()))
        return ""

    _hold(planned, metric, law, None)
