"""What holds for every component of a kind, all on one page, so that laws can be compared.

Each law raises AssertionError, which says what came and what is owed; `check` names the component, too.
"""

from __future__ import annotations

import copy
import inspect
import math
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import torch
from torch import Tensor, nn

from genkit.denoiser import Denoiser, Program, Scalings, jvp
from genkit.kernel import registry, resolving
from genkit.keys import Key
from genkit.kinds import At, Batch, Context, Sampled, Setup, Source, Spec, TrackedRun, fields
from genkit.levels import Levels
from genkit.levels import grid as grid_of
from genkit_testing import stray_draws
from genkit_testing.telling import held, require, require_numbers, require_same, told

SPEC = Spec(channels=1, height=8, width=8)


def context(spec: Spec = SPEC, **given: Any) -> Context:
    """A small context: 8x8 grey images, 100 steps."""
    return Context(spec=spec, **{"total_steps": 100, **given})


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Unit normals that leave torch's default generator alone."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def bytes_of(*shape: int) -> Tensor:
    """uint8 numbers, likewise."""
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def check(component: Any) -> None:
    """Hold a component against the laws of all components, and of its kind."""
    info = registry.info_of(component)
    held(registry.named(info), partial(_all, info, component))


def _all(info: registry.ComponentInfo, component: Any) -> None:
    described(component)
    before = stray_draws.everywhere()
    if law := LAWS.get(info.kind):  # kinds that plugins added have none
        law(component)
    require(stray_draws.everywhere() == before, stray_draws.WHAT, stray_draws.HINT)


class _Model(nn.Module):
    """A network with weights, of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1)
        with torch.no_grad():
            self.layer.weight.fill_(0.3)
            self.layer.bias.fill_(0.1)  # type: ignore[union-attr]

    def forward(self, x: Tensor, c_noise: Tensor, cond: Any) -> Tensor:
        y: Tensor = self.layer(x)
        return y


def _scale(sigma: Tensor, to: Tensor | None = None) -> Scalings:
    """EDM's scalings of data of deviation 1/2."""
    norm = (sigma**2 + 0.25).sqrt()
    return Scalings(0.25 / norm**2, sigma / 2 / norm, 1 / norm, sigma.log() / 4)


def denoiser() -> Denoiser:
    """A small denoiser, as a student or as a trained model."""
    with Key(0).reseeded("cpu"):
        return Denoiser(_Model(), _scale, SPEC)


def _modelled(component: Any) -> Any:
    """A component whose sources that name no model name one."""
    named = {f.name: Source(origin="a model") for _, f in fields(type(component)) if f.metadata.get("source")}
    return attrs.evolve(component, **{n: v for n, v in named.items() if not getattr(component, n).origin})


def described(component: Any) -> None:
    """The summary on offer is the docstring's first line; settings have help and can be hashed; tables round-trip."""
    info, cls = registry.info_of(component), type(component)
    first = (inspect.getdoc(cls) or "").split("\n")[0]
    require(info.summary == first, f"offered as {info.summary!r}", f"the docstring's first line, {first!r}")
    require(
        attrs.has(cls) and cls.__setattr__ is not object.__setattr__, f"{cls.__name__} is not frozen", "a frozen one"
    )
    for name, field in fields(cls):
        needs_help = not ("slot" in field.metadata or field.metadata.get("help"))
        require(not needs_help, f"setting {name!r} has no help", "a line of help for each setting")
        _hashable(name, getattr(component, field.name))
    table = resolving.plain(component)
    again = resolving.component(info.kind, table.pop("use"), **table)
    require(again == component, f"{again} after a round trip through its table", f"{component}")


def _hashable(name: str, value: Any) -> None:
    try:
        hash(value)
    except TypeError:
        what = f"setting {name!r} holds a {type(value).__name__}, {str(value)[:60]!r}, which cannot be hashed"
        require(False, what, "values that can: a tuple in place of a list")


def curriculum(component: Any) -> None:
    """Whole numbers from 2, never fewer later, for short and long runs."""
    for total in (1, 2, 7, 8, 100, 4800, 400_000):
        steps = sorted({*range(0, total, max(1, total // 4800)), total - 1})
        points = {k: component(k, total) for k in steps}
        for k, n in points.items():
            owed = "a whole number from 2, an int"
            require(isinstance(n, int) and n >= 2, f"N({k}) = {n!r} ({type(n).__name__}) of {total} steps", owed)
        for a, b in pairwise(steps):
            fell = f"N(k) falls from {points[a]} at step {a} to {points[b]} at step {b} of {total}"
            require(points[a] <= points[b], fell, "a number of grid points that never falls")


def noise(component: Any) -> None:
    """A cdf that rises within [0, 1], its inverse, and a grid whose chances add up to 1."""
    law = _seeded(component, context())
    sigma = Levels().sigmas(200)
    p = require_numbers(law.cdf(sigma), (200,), "of cdf", (torch.float64,))
    falls = bool((p.diff() >= 0).all() and p.min() >= 0 and p.max() <= 1)
    require(falls, f"cdf gave {told(p)}", "a cdf that never falls, within [0, 1]")
    u = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    back = law.cdf(require_numbers(law.icdf(u), (99,), "of icdf", (torch.float64,)))
    require_same(u, back, "cdf(icdf(u)) is not u", "an icdf that inverts cdf", 0, 1e-9)
    ends = law.icdf(torch.tensor([0.0, 1.0], dtype=torch.float64))
    require_numbers(ends, (2,), "of icdf at 0 and 1", (torch.float64,))
    table = grid_of(Levels(), 11, law)
    adds = bool((table.cumulative[:10].diff() >= 0).all() and table.cumulative[9] == 1)
    require(adds, f"chances of {told(table.cumulative[:10])}", "chances on the grid that add up to 1")


class _LogUniform:
    """ln sigma uniform from ln 0.002 to ln 80."""

    low, high = math.log(0.002), math.log(80)

    def cdf(self, sigma: torch.Tensor) -> torch.Tensor:
        return (sigma.double().log() - self.low) / (self.high - self.low)

    def icdf(self, u: torch.Tensor) -> torch.Tensor:
        return (self.low + u.double() * (self.high - self.low)).exp()


def pairs(component: Any) -> None:
    """0 <= r < t with their gap, one of each per sample, of its own numbers alone, closer as N grows."""
    draw = _seeded(component, context())
    noise = _LogUniform()
    u = torch.linspace(0.001, 0.999, 40, dtype=torch.float64)

    def numbers(*i: int) -> torch.Tensor:
        return u if not i else (u + 0.618 * sum(i)) % 1

    least = 1.0
    for n in (2, 11, 161, 1281):
        t, r, gap = draw(noise, n, numbers)
        for level in (t, r, gap):
            require_numbers(level, (40,), "of t, r and gap each", (torch.float32,), f" at N = {n}")
        ordered = bool((r >= 0).all() and (r < t).all() and (gap > 0).all())
        require(ordered, f"r is {told(r)}, t {told(t)}, gap {told(gap)}, at N = {n}", "0 <= r < t, and a gap above 0")
        require_same(gap, t - r, f"the gap is not t - r at N = {n}", "the gap t - r", 1e-3)
        part = draw(noise, n, lambda *i: numbers(*i)[5:9])
        for whole, few in zip((t, r, gap), part, strict=True):
            require_same(whole[5:9], few, "a sample's levels depend on its batch", "levels of its own numbers", 0, 0)
        share = (gap / t).mean().item()
        require(share <= least, f"gap / t rises to {share:.4g} at N = {n}", "pairs that are closer as N grows")
        least = share


def coupling(component: Any) -> None:
    """Noise of the samples' shape, at a finite price that is not below 0; what learns gets a gradient by both."""
    pair = _seeded(component, context())
    x0, eps = normal(2, 6, 1, 8, 8)
    for n in (0, 2, 1281):
        with Key(0).reseeded("cpu"):
            found = pair(x0, eps, {}, n)
        with Key(0).reseeded("cpu"):
            again = pair(x0, eps, {}, n)
        require_numbers(found.eps, (6, 1, 8, 8), "noise like eps", when=f" at N = {n}")
        price = torch.as_tensor(found.loss).expand(6)
        right = bool(torch.isfinite(price).all() and (price >= 0).all())
        require(right, f"its price is {told(price)}", "a finite price from 0")
        require_same(found.eps, again.eps, "the same call gives other noise", "no draws of its own", 0, 0)
    if isinstance(pair, torch.nn.Module):
        for what, part in (("noise", found.eps.square().sum()), ("price", price.sum())):
            given = torch.autograd.grad(part, list(pair.parameters()), retain_graph=True, allow_unused=True)
            require(any(g is not None for g in given), f"no gradient by its {what}", "a gradient for what it learns")


def loss(component: Any) -> None:
    """d(x, x) = 0, d > 0 elsewhere, one value per sample, symmetric, a finite gradient also at x = y."""
    d = _seeded(component, context())
    x, y = normal(4, 1, 8, 8).requires_grad_(), normal(4, 1, 8, 8, seed=1)
    at = At(torch.full((4,), 2.0), torch.full((4,), 1.0), 0, 11)
    values = require_numbers(d(x, y, at), (4,), "one value per sample, (B,)")
    require(bool((values > 0).all()), f"d(x, y) gave {told(values)} where x is not y", "values above 0")
    require_same(values, d(y, x.detach(), at), "d(y, x) is not d(x, y)", "a symmetric metric")
    part = d(x[1:], y[1:], At(at.t[1:], at.r[1:], 0, 11))
    require_same(values[1:], part, "a sample's value depends on its batch", "a value of the sample alone")
    same = require_numbers(d(x, x.detach().clone(), at), (4,), "one value per sample, (B,)", when=" at x = y")
    require(bool((same.abs() < 1e-6).all()), f"d(x, x) gave {told(same)}", "0")
    (values.sum() + same.sum()).backward()  # type: ignore[no-untyped-call]
    require_numbers(x.grad, (4, 1, 8, 8), "a gradient, also at x = y")


def weighting(component: Any) -> None:
    """Positive and finite on every pair of the finest grid."""
    weigh = _seeded(component, context())
    sigma = Levels().sigmas(1281)
    given = weigh(sigma[1:].float(), sigma[:-1].float(), sigma.diff().float())
    values = require_numbers(given, (1280,), "one weight per pair, (B,)")
    require(bool((values > 0).all()), f"gave {told(values)}", "weights above 0")


def parameterization(component: Any) -> None:
    """Scalings finite from sigma_min to sigma_max, one of each for every level."""
    scale = _seeded(component, context())
    scalings = scale(Levels().sigmas(50).float())
    for name, part in zip(("c_skip", "c_out", "c_in"), scalings[:3], strict=True):
        require_numbers(part, (50,), f"{name}, one per level")
    c_noise = scalings[3]
    require_numbers(c_noise, (50, *c_noise.shape[1:]), "c_noise, (B,) or (B, K)")


def path(component: Any) -> None:
    """x_r like x_t for r down to 0, x_t itself at r = t, of the sample alone."""
    step = _seeded(_modelled(component), context(student=denoiser(), load=lambda source: denoiser()))
    x0, eps, t = normal(5, 1, 8, 8), normal(5, 1, 8, 8, seed=1), torch.tensor([0.01, 0.3, 1.0, 9.0, 80.0])
    x_t = x0 + t.reshape(-1, 1, 1, 1) * eps
    with torch.no_grad():
        for share in (0.0, 0.5, 0.99, 1.0):
            r = share * t
            x_r = require_numbers(step(x_t, t, r, x0, eps, {}), (5, 1, 8, 8), "x_r", when=f" at r = {share} t")
            few = step(x_t[1:3], t[1:3], r[1:3], x0[1:3], eps[1:3], {})
            require_same(x_r[1:3], few, "a sample's x_r depends on its batch", "x_r of the sample alone", 1e-4, 1e-5)
        require_same(x_t, x_r, "x_r is not x_t at r = t", "x_t where no step is taken", 1e-4, 1e-5)


def teacher(component: Any) -> None:
    """Answers as a denoiser does, also after updates; these leave the student alone, a copy shares no weights."""
    teaching = _seeded(_modelled(component), context(load=lambda source: denoiser()))
    student = denoiser()
    answers = teaching.init(student)
    require(callable(answers), f"init gave {told(answers)}", "who answers: a denoiser, or a function called as one")
    if isinstance(answers, Denoiser) and answers is not student:
        own = {p.data_ptr() for p in answers.parameters()}
        shared = [name for name, p in student.named_parameters() if p.data_ptr() in own]
        require(
            not shared, f"its copy shares {', '.join(shared)} with the student", "the student, or weights of its own"
        )
    x, sigma = normal(3, 1, 8, 8), torch.tensor([0.01, 1.0, 80.0])
    for intervals in (1, 10, 1280):
        with torch.no_grad():
            for p in student.parameters():
                p.add_(0.1)
        before = copy.deepcopy(student.state_dict())
        teaching.update(answers, student, intervals)
        for name, value in student.state_dict().items():
            require_same(before[name], value, f"update changes the student's {name}", "a student left as it is", 0, 0)
        with torch.no_grad():
            when = f" after an update with {intervals} intervals"
            require_numbers(answers(x, sigma, {}), (3, 1, 8, 8), "clean data like x", when=when)


def network(component: Any) -> None:
    """Gives the shape that is asked for, in float32, takes as many times, starts from the context alone.

    It is finite under bfloat16, too, and has a forward mode that keeps the value.
    """
    built = _seeded(component, context(), 0)
    for (name, p), q in zip(built.named_parameters(), _seeded(component, context(), 1).parameters(), strict=True):
        require_same(p, q, f"{name} starts differently from the same context", "weights of the context's seed", 0, 0)
    x, c = normal(3, 1, 8, 8), torch.linspace(-1.5, 1.1, 3)
    built.eval()
    single = (torch.float32,)
    require_numbers(built(x, c, {}), (3, 1, 8, 8), "an answer like x", single)
    wider = _seeded(component, context(times=2, out_channels=3)).eval()
    require_numbers(wider(x, torch.stack([c, c], 1), {}), (3, 3, 8, 8), "context.out_channels channels", single)
    aware = _seeded(component, context(attrs.evolve(SPEC, augment=4))).eval()
    zeros = aware(x, c, {"augment": torch.zeros(3, 4)})
    require_same(aware(x, c, {}), zeros, "no augmentation is not zeros", "the same for none and for zeros", 0, 0)
    _features(built, x, c)
    with torch.autocast("cpu", torch.bfloat16):
        require_numbers(built(x, c, {}), (3, 1, 8, 8), "an answer under bfloat16", (*single, torch.bfloat16))
    if getattr(type(component), "jvp", True):
        _forward_mode(built, x, c)


def _seeded(component: Any, context: Context, state: int = 0) -> Any:
    """What a component builds, whatever the state of torch's default generator, which is put back."""
    with Key(state).reseeded("cpu"):
        return registry.build(component, context)


def _forward_mode(built: Any, x: Tensor, c: Tensor) -> None:
    built.train()
    with torch.no_grad():
        for i, p in enumerate(built.parameters()):  # a last layer of zeros would hide everything
            p.add_(normal(*p.shape, seed=i), alpha=0.1)
    with Key(0).reseeded("cpu"):
        value, along = jvp(lambda x, c: built(x, c, {}), (x, c), (torch.ones_like(x), torch.ones_like(c)))
    with Key(0).reseeded("cpu"):
        plain = built(x, c, {})
    require_numbers(along, tuple(x.shape), "a derivative; or jvp = False")
    came, owed = "the value differs in forward mode, as F.dropout's does on a CPU", "the plain call's; or jvp = False"
    require_same(value, plain, came, owed, 1e-4, 1e-4)


def _features(built: Any, x: Tensor, c: Tensor) -> None:
    """Where a network has them: maps from the finest to the coarsest, a sample's whatever its batch."""
    if not hasattr(built, "features"):
        return
    maps, first = built.features(x, c, {}), built.features(x[:2], c[:2], {})
    shapes = [tuple(m.shape) for m in maps]
    right = len(maps) > 0 and all(len(shape) == 4 and shape[0] == 3 for shape in shapes)
    require(right, f"features of shapes {shapes}", "maps (B, C, H, W)")
    sizes = [shape[2] * shape[3] for shape in shapes]
    require(sizes == sorted(sizes, reverse=True), f"features of shapes {shapes}", "the finest first")
    for m, one in zip(maps, first, strict=True):
        require_same(m[:2], one, "features depend on the batch", "features of the sample alone", 1e-4, 1e-4)


def dataset(component: Any) -> None:
    """Batches as the spec says, the same content under the same identity, nothing held out that is trained on."""
    data, again = registry.build(component, Setup()), registry.build(component, Setup())
    same = f"identity {data.identity!r}, then {again.identity!r}"
    require(data.identity == again.identity, same, "one identity for one content")
    batch, other = (each.batch(torch.arange(2), Key(0)) for each in (data, again))
    dtype = getattr(torch, data.spec.dtype)
    x = require_numbers(batch.x, (2, *data.spec.shape), "samples as the spec says", (dtype,))
    require_same(x, other.x, f"other samples under identity {data.identity!r}", "one content for one identity", 0, 0)
    images = data.decode(torch.zeros(2, *data.spec.shape))
    right = isinstance(images, Tensor) and images.dtype == torch.uint8 and len(images) == 2
    require(right, f"decode gave {told(images)} for 2 samples", "uint8 images, one for each")
    if data.held_out is not None:
        specs = f"held-out samples of {data.held_out.spec}"
        require(data.held_out.spec == data.spec, specs, f"those of training, {data.spec}")
        identity = f"held-out samples of identity {data.held_out.identity!r}"
        require(data.held_out.identity != data.identity, identity, "nothing held out that is trained on")


def optimizer(component: Any) -> None:
    """Takes each weight once, minimises a parabola, scales its rate within [0, 1], goes on as if uninterrupted."""
    for k in range(100):
        scale = component.lr_scale(k, 100)
        require(0 <= scale <= 1, f"lr_scale gave {scale} at step {k} of 100", "a number within [0, 1]")
    weights = [(f"layer.{n}", torch.nn.Parameter(torch.zeros(n * [2]))) for n in range(4)]
    taken = [p for group in component.optimizer(weights).param_groups for p in group["params"]]
    counts = {name: sum(p is q for q in taken) for name, p in weights}
    require(set(counts.values()) == {1} and len(taken) == 4, f"takes {counts}", "each weight once")

    def start() -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
        p = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
        return p, component.optimizer([("p", p)])

    def advance(p: torch.nn.Parameter, made: torch.optim.Optimizer, steps: int) -> None:
        for _ in range(steps):
            made.zero_grad()
            p.square().sum().backward()  # type: ignore[no-untyped-call]
            made.step()

    p, made = start()
    advance(p, made, 12)
    q, other = start()
    with torch.no_grad():
        q.copy_(p)
    other.load_state_dict(copy.deepcopy(made.state_dict()))
    advance(p, made, 8)
    advance(q, other, 8)
    went = bool((p.abs() < torch.tensor([3.0, 2.0])).all())
    require(went, f"(3, -2) became {p.tolist()} in 20 steps down |p|^2", "steps downhill")
    require_same(p, q, "goes elsewhere after a restart from its state", "a state that holds all it needs", 0, 0)


def ema(component: Any) -> None:
    """0 <= beta < 1 at every step."""
    for k in (0, 1, 10, 1000, 10**6):
        beta = component.beta(k, 64)
        require(0 <= beta < 1, f"beta gave {beta} at step {k}", "a number within [0, 1)")


def features(component: Any) -> None:
    """(B, D) by name, one row per image whatever the batch."""
    extract = _seeded(component, context())
    images = bytes_of(6, 1, 8, 8)
    whole, first = extract(images), extract(images[:2])
    for name, values in whole.items():
        require_numbers(values, (6, *values.shape[1:2]), f"{name}, a row for each image, (B, D)")
        require(values.ndim == 2, f"{name} gave {told(values)}", "a row for each image, (B, D)")
        require_same(values[:2], first[name], f"{name} depends on the batch", "features of the image alone", 1e-5, 1e-5)


def metric(component: Any) -> None:
    """Figures are finite numbers, the same however samples are split; what is kept of the data stands for them."""
    better = getattr(type(component), "better", None)
    require(better in ("lower", "higher"), f"`better` is {better!r}", "lower or higher, a class attribute")
    extract = _seeded(component.features, context())

    def feed(accumulator: Any, images: Tensor, real: bool | str) -> None:
        accumulator.update(Sampled(images, extract(images), {}), real)

    real, fake = bytes_of(2, 60, 1, 8, 8)
    whole, left, right = (_seeded(component, context()) for _ in range(3))
    for accumulator in (whole, left):
        feed(accumulator, real, True)
        feed(accumulator, real.flip(0)[:30], "held-out")
    feed(whole, fake, False)
    feed(left, fake[:25], False)
    feed(right, fake[25:], False)
    left.merge(right)
    one = whole.compute()
    require(len(one) > 0 and all(map(math.isfinite, one.values())), f"figures {one}", "finite numbers by name")
    _same_figures(one, left.compute(), "split over two accumulators that are merged")
    if hasattr(whole, "reference"):
        again = _seeded(component, context())
        taken = again.refer(whole.reference())
        require(taken is True, f"refer(reference()) gave {taken!r}", "True: its own reference suffices")
        feed(again, fake, False)
        _same_figures(one, again.compute(), "with the data's side from its reference")
        _same_figures(_floors(whole), _floors(again), "with the data's side from its reference")


def _same_figures(one: dict[str, float], other: dict[str, float], how: str) -> None:
    require(one.keys() == other.keys(), f"figures {sorted(other)} {how}", f"those of one pass, {sorted(one)}")
    for name, value in one.items():
        alike = abs(value - other[name]) <= 1e-8 * max(1, abs(value))
        require(alike, f"{name} = {other[name]} {how}", f"that of one pass, {value}")


def _floors(accumulator: Any) -> dict[str, float]:
    return accumulator.floors() if hasattr(accumulator, "floors") else {}


def protocol(component: Any) -> None:
    """Quantises to uint8, never downwards as levels rise, clips, and names whole counts."""
    levels = torch.linspace(-1.5, 1.5, 3001).reshape(1, 1, 1, -1)
    images = component.quantise(levels)
    require(
        images.dtype == torch.uint8 and images.shape == levels.shape,
        f"quantise gave {told(images)}",
        f"uint8 of shape {tuple(levels.shape)}",
    )
    require(bool((images.int().diff() >= 0).all()), "a brighter pixel comes out darker", "levels that never fall")
    ends = images.flatten()[0].item(), images.flatten()[-1].item()
    require(ends == (0, 255), f"-1.5 and 1.5 became {ends}", "0 and 255: what is beyond [-1, 1] is clipped")
    counts = f"samples = {component.samples}, seeds = {component.seeds}"
    require(component.samples >= 2 and component.seeds >= 1, counts, "at least 2 samples and 1 seed")


def objective(component: Any) -> None:
    """A program that holds its student once, gives a value per sample, and a gradient to every group."""
    predicts = getattr(component, "predicts", None)
    require(isinstance(predicts, str), f"`predicts` is {predicts!r}", "the word for what its model gives")
    needs = component.sampler.needs
    require(predicts == needs, f"predicts {predicts}, its own sampler needs {needs}", "a sampler that fits")
    program = _seeded(component, context())
    right = isinstance(program, Program) and isinstance(getattr(program, "student", None), Denoiser)
    require(right, f"build gave {type(program).__name__}", "a Program with a Denoiser as its student")
    pointers = [t.data_ptr() for t in program.state_dict().values() if t.numel()]
    twice = len(pointers) - len(set(pointers))
    require(not twice, f"its state holds {twice} tensors twice", "each tensor once in state_dict")
    batch = Batch(normal(8, 1, 8, 8), {})  # for those with groups of samples, too
    for phase, params in program.groups().items():
        k = next((k for k in range(3, 10**6) if program.acts(phase, k)), -1)
        require(k > 0, f"group {phase} never acts within a million steps", "a group that is trained at some step")
        program.zero_grad()
        when = f" at step {k} in phase {phase}"
        given = program(batch, k, Key(0, k).during(phase)).values
        values = require_numbers(given, (8,), "one value per sample, (B,)", when=when)
        values.mean().backward()  # type: ignore[no-untyped-call]
        found = any(p.grad is not None for _, p in params)
        require(found, f"group {phase} gets no gradient{when}", "a gradient for its parameters")
        again = program(batch, k, Key(0, k).during(phase)).values
        require_same(values, again, f"the same key gives other values{when}", "draws from the key alone", 0, 0)


def tracker(component: Any) -> None:
    """Takes a run, its resumption and a trial; figures with and without a loss, grey and RGB pictures, any outcome.

    And it leaves what it is given and the run's own files as they were.
    """
    recipe = {"name": "tiny", "train": {"seed": 0, "steps": 20}, "loss": {"use": "l2"}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "recipe.toml").write_text("")
        alone = TrackedRun(folder=folder, key="0a1b2c3d4e-18f", recipe=copy.deepcopy(recipe))
        trial = attrs.evolve(alone, key="0a1b2c3d4e-190", study="losses", arm="loss=l2")
        for run in (alone, attrs.evolve(alone, k=2), trial):
            for outcome in ("preempted", "diverged", "failed", "done"):
                _track(component.open(run), run.k, outcome)
        require(alone.recipe == recipe, f"changed the recipe to {alone.recipe}", "a recipe left as it is")
        written = (folder / "recipe.toml").read_text()
        require(written == "", f"wrote {written[:40]!r} into recipe.toml", "the run's own files left as they are")


def _track(session: Any, k: int, outcome: str) -> None:
    """All that a session may be told, from step k + 1 on."""
    for method in ("scalars", "images", "close"):
        there = callable(getattr(session, method, None))
        require(there, f"open gave {told(session)}, without {method}", "a session with scalars, images and close")
    for figures in ({"loss": 0.5, "N": 11, "images_per_sec": 99.5, "lr": 1e-3}, {"fd.fd@1": 0.7, "fd.floor": 0.1}):
        before = dict(figures)
        session.scalars(k + 1, figures)
        require(figures == before, f"scalars changed {before} to {figures}", "figures left as they are")
    for channels in (1, 3):
        picture = torch.full((channels, 4, 6), 7, dtype=torch.uint8)
        session.images(k + 2, f"samples-steps{channels}", picture)
        require(bool((picture == 7).all()), f"images changed a picture to {told(picture)}", "pictures left as they are")
    session.close(outcome)


def sampler(component: Any) -> None:
    """Clean data like the draws, as many network calls as it says, sample i whatever the batch."""
    calls = []

    def denoiser(x: Tensor, sigma: Tensor, cond: Any = None, to: Any = None) -> Tensor:
        calls.append(sigma)
        return x / (1 + sigma.reshape(-1, 1, 1, 1))

    needs = getattr(component, "needs", None)
    require(isinstance(needs, str), f"`needs` is {needs!r}", "the word for what its model must predict")
    draw = _seeded(component, context(attrs.evolve(SPEC, classes=3)))
    z = [normal(4, 1, 8, 8, seed=j) for j in range(8)]
    for steps in (1, 2, 3):
        calls.clear()
        whole = require_numbers(
            draw(denoiser, lambda j: z[j], {}, steps), (4, 1, 8, 8), "x0", when=f" in {steps} steps"
        )
        nfe = draw.nfe(steps)
        require(len(calls) == nfe, f"{len(calls)} network calls in {steps} steps", f"nfe({steps}) = {nfe} of them")
        part = draw(denoiser, lambda j: z[j][:2], {}, steps)
        require_same(whole[:2], part, "a sample depends on its batch", "a sample of its own draws", 1e-5, 1e-8)


class Job(NamedTuple):
    """A job as launchers get it; `genkit.kinds.Launcher` says what its fields are."""

    argv: tuple[str, ...]
    log: Path
    cards: int = 0
    cpus: int = 1
    memory: int = 0
    seconds: float = 0.0
    tryout: bool = True
    nodes: int = 1
    processes: int = 1


def launcher(component: Any) -> None:
    """Runs `genkit` with a job's words, once under a name, its output in the log; tells its exit code; can cancel."""
    made = registry.build(component, Setup())
    slots = getattr(made, "slots", None)
    require(isinstance(slots, int) and slots >= 1, f"slots = {slots!r}", "a whole number from 1")
    with tempfile.TemporaryDirectory() as folder:
        try:
            for word, owed in (("--version", 0), ("--no-such-option", 2)):
                job = Job((word,), Path(folder) / word.strip("-") / "log.txt")
                code = _ended(made, _submitted(made, word.strip("-"), job))
                require(code == owed, f"poll gave {code!r} for `genkit {word}`", f"its exit code, {owed}")
                text = job.log.read_text() if job.log.exists() else ""
                logged = f"the log holds {text[:60]!r} after `genkit {word}`"
                require(text.count("genkit") >= 1, logged, "what it printed, in job.log")
                require(word != "--version" or text.count("\n") == 1, logged, "one job for one name")
            handle = _submitted(made, "cancelled", Job(("--version",), Path(folder) / "cancelled.txt"))
            made.cancel([handle])
            code = _ended(made, handle)
            require(isinstance(code, int) or code == "gone", f"poll gave {code!r} after cancel", "its end")
        finally:
            made.close()


def _submitted(made: Any, name: str, job: Job) -> str:
    """The handle of a job that is submitted twice, as by somebody who did not hear the first answer."""
    handles, again = (made.submit(f"genkit-law-{name}", [job]) for _ in range(2))
    right = isinstance(handles, list) and len(handles) == 1 and isinstance(handles[0], str)
    require(right, f"submit gave {handles!r} for one job", "a list of handles, a word for each job")
    require(handles == again, f"submit gave {handles}, then {again} under the same name", "the handles of before")
    handle: str = handles[0]
    return handle


def _ended(made: Any, handle: str, seconds: float = 120) -> Any:
    """How a job ended, or how it is after so long a time."""
    until = time.monotonic() + seconds
    while (how := made.poll([handle]).get(handle, "gone")) in ("waits", "runs") and time.monotonic() < until:
        time.sleep(0.05)
    return how


LAWS: dict[str, Callable[[Any], None]] = {
    law.__name__: law
    for law in (
        *(dataset, network, parameterization, curriculum, noise, pairs, coupling, loss, weighting, path, teacher),
        *(objective, optimizer, ema, sampler, features, metric, protocol, tracker, launcher),
    )
}
