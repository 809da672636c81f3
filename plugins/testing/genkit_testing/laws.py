"""What holds for every component of a kind, all on one page, so that laws can be compared.

Each law raises AssertionError, naming what is broken.
"""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import attrs
import torch

from genkit.denoiser import Denoiser, Program, jvp
from genkit.kernel import registry, resolving
from genkit.kinds import At, Context, Sampled, Setup, Spec, fields
from genkit.levels import Levels
from genkit.levels import grid as grid_of

SPEC = Spec(channels=1, height=8, width=8)


def context(spec: Spec = SPEC, **given: Any) -> Context:
    """A small context: 8x8 grey images, 100 steps."""
    return Context(spec=spec, **{"total_steps": 100, **given})


def require(fact: bool, law: str) -> None:
    """An assertion that `python -O` keeps."""
    if not fact:
        raise AssertionError(law)


def check(component: Any) -> None:
    """Hold a component against the laws of all components, and of its kind."""
    info = registry.info_of(component)
    described(component)
    if law := globals().get(info.kind):
        law(component)


def described(component: Any) -> None:
    """The summary on offer is the docstring's first line; every setting has a line of help; tables round-trip."""
    info, cls = registry.info_of(component), type(component)
    first = (inspect.getdoc(cls) or "").split("\n")[0]
    require(info.summary == first, f"{info.qualified}: summary {info.summary!r} is not the docstring's {first!r}")
    require(attrs.has(cls) and cls.__setattr__ is not object.__setattr__, f"{info.qualified} is not frozen")
    for name, field in fields(cls):
        slot = "slot" in field.metadata
        require(slot or bool(field.metadata.get("help")), f"{info.qualified}.{name} has no help")
    table = resolving.plain(component)
    again = resolving.component(info.kind, table.pop("use"), **table)
    require(again == component, f"{info.qualified} is not the same after a round trip through its table")


def curriculum(component: Any) -> None:
    """At least 2 grid points, never fewer later, for short and long runs."""
    for total in (1, 2, 7, 8, 100, 4800):
        points = [component(k, total) for k in range(total)]
        require(all(isinstance(n, int) and n >= 2 for n in points), f"N(k) below 2 in {total} steps")
        require(points == sorted(points), f"N(k) falls within {total} steps")


def noise(component: Any) -> None:
    """A cdf that rises within [0, 1], its inverse, and a grid whose chances add up to 1."""
    law = registry.build(component, context())
    sigma = Levels().sigmas(200)
    p = law.cdf(sigma)
    require(p.dtype == torch.float64, "cdf is not float64")
    require(bool((p.diff() >= 0).all() and p.min() >= 0 and p.max() <= 1), "cdf does not rise within [0, 1]")
    u = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    require(torch.allclose(law.cdf(law.icdf(u)), u, atol=1e-9), "icdf does not invert cdf")
    require(bool(torch.isfinite(law.icdf(torch.tensor([0.0, 1.0]))).all()), "icdf is infinite at the ends")
    table = grid_of(Levels(), 11, law)
    require(bool((table.cumulative[:10].diff() >= 0).all() and table.cumulative[9] == 1), "chances do not add up")


class _LogUniform:
    """ln sigma uniform from ln 0.002 to ln 80."""

    low, high = math.log(0.002), math.log(80)

    def cdf(self, sigma: torch.Tensor) -> torch.Tensor:
        return (sigma.double().log() - self.low) / (self.high - self.low)

    def icdf(self, u: torch.Tensor) -> torch.Tensor:
        return (self.low + u.double() * (self.high - self.low)).exp()


def pairs(component: Any) -> None:
    """0 <= r < t with their gap, one of each per sample, of its own numbers alone, closer as N grows."""
    draw = registry.build(component, context())
    noise = _LogUniform()
    u = torch.linspace(0.001, 0.999, 40, dtype=torch.float64)

    def numbers(*i: int) -> torch.Tensor:
        return u if not i else (u + 0.618 * sum(i)) % 1

    least = 1.0
    for n in (2, 11, 161, 1281):
        t, r, gap = draw(noise, n, numbers)
        for level in (t, r, gap):
            require(level.shape == (40,) and level.dtype == torch.float32, "t, r and gap are not (B,), float32")
            require(bool(torch.isfinite(level).all()), "levels are not finite")
        require(bool((r >= 0).all() and (r < t).all() and (gap > 0).all()), "not 0 <= r < t")
        require(torch.allclose(gap, t - r, rtol=1e-3, atol=1e-6), "the gap is not t - r")
        part = draw(noise, n, lambda *i: numbers(*i)[5:9])
        require(all(torch.equal(a[5:9], b) for a, b in zip((t, r, gap), part, strict=True)), "samples mix")
        share = (gap / t).mean().item()
        require(share <= least, "pairs move apart as N grows")
        least = share


def coupling(component: Any) -> None:
    """Noise of the samples' shape, at a finite price that is not below 0; what learns gets a gradient by both."""
    from genkit.keys import Key

    pair = registry.build(component, context())
    x0, eps = torch.randn(2, 6, 1, 8, 8)
    for n in (0, 2, 1281):
        with Key(0).reseeded("cpu"):
            found = pair(x0, eps, {}, n)
        with Key(0).reseeded("cpu"):
            again = pair(x0, eps, {}, n)
        require(found.eps.shape == eps.shape and bool(torch.isfinite(found.eps).all()), "not finite noise (B, C, H, W)")
        price = torch.as_tensor(found.loss).expand(6)
        require(bool(torch.isfinite(price).all() and (price >= 0).all()), "its price is below 0, or not finite")
        require(torch.equal(found.eps, again.eps), "it draws by itself")
    if isinstance(pair, torch.nn.Module):
        for part in (found.eps.square().sum(), price.sum()):
            given = torch.autograd.grad(part, list(pair.parameters()), retain_graph=True, allow_unused=True)
            require(any(g is not None for g in given), "what it learns gets no gradient")


def loss(component: Any) -> None:
    """d(x, x) = 0, d > 0 elsewhere, one value per sample, symmetric, a finite gradient also at x = y."""
    d = registry.build(component, context())
    x, y = torch.randn(4, 1, 8, 8, requires_grad=True), torch.randn(4, 1, 8, 8)
    at = At(torch.full((4,), 2.0), torch.full((4,), 1.0), 0, 11)
    values = d(x, y, at)
    require(values.shape == (4,) and bool((values > 0).all()), "not one positive value per sample")
    require(torch.allclose(values, d(y, x.detach(), at), rtol=1e-4), "not symmetric")
    require(torch.allclose(values[1:], d(x[1:], y[1:], At(at.t[1:], at.r[1:], 0, 11)), rtol=1e-4), "samples mix")
    same = d(x, x.detach().clone(), at)
    require(bool((same.abs() < 1e-6).all()), "d(x, x) is not 0")
    (values.sum() + same.sum()).backward()
    require(x.grad is not None and bool(torch.isfinite(x.grad).all()), "the gradient is not finite")


def weighting(component: Any) -> None:
    """Positive and finite on every pair of the finest grid."""
    weigh = registry.build(component, context())
    sigma = Levels().sigmas(1281)
    values = weigh(sigma[1:].float(), sigma[:-1].float(), sigma.diff().float())
    require(values.shape == (1280,) and bool((values > 0).all() and torch.isfinite(values).all()), "not positive")


def parameterization(component: Any) -> None:
    """Scalings finite from sigma_min to sigma_max, one of each for every level."""
    scale = registry.build(component, context())
    sigma = Levels().sigmas(50).float()
    for part in scale(sigma):
        require(part.shape[0] == 50 and bool(torch.isfinite(part).all()), "scalings are not finite")


def network(component: Any) -> None:
    """Gives the shape that is asked for, takes as many times, starts from the context alone, is finite under bfloat16.

    And it has a forward mode that keeps the value.
    """
    from genkit.keys import Key

    built, again = registry.build(component, context()), registry.build(component, context())
    for (name, p), q in zip(built.named_parameters(), again.parameters(), strict=True):
        require(torch.equal(p, q), f"{name} starts differently from the same context")
    x, c = torch.randn(3, 1, 8, 8), torch.linspace(-1.5, 1.1, 3)
    built.eval()
    require(built(x, c, {}).shape == x.shape, "changes the shape")
    wider = registry.build(component, context(times=2, out_channels=3))
    require(wider(x, torch.stack([c, c], 1), {}).shape == (3, 3, 8, 8), "does not give the channels asked for")
    told = registry.build(component, context(attrs.evolve(SPEC, augment=4))).eval()
    require(torch.equal(told(x, c, {}), told(x, c, {"augment": torch.zeros(3, 4)})), "no augmentation is not zeros")
    _features(built, x, c)
    with torch.autocast("cpu", torch.bfloat16):
        require(bool(torch.isfinite(built(x, c, {})).all()), "is not finite under bfloat16")
    if not getattr(type(component), "jvp", True):
        return
    built.train()
    with torch.no_grad():
        for p in built.parameters():  # a last layer of zeros would hide everything
            p.add_(torch.randn_like(p), alpha=0.1)
    with Key(0).reseeded("cpu"):
        value, along = jvp(lambda x, c: built(x, c, {}), (x, c), (torch.ones_like(x), torch.ones_like(c)))
    with Key(0).reseeded("cpu"):
        plain = built(x, c, {})
    require(bool(torch.isfinite(along).all()), "has no finite derivative")
    require(torch.allclose(value, plain, rtol=1e-4, atol=1e-4), "differs in forward mode, as F.dropout on a CPU does")


def _features(built: Any, x: torch.Tensor, c: torch.Tensor) -> None:
    """Where a network has them: maps from the finest to the coarsest, a sample's whatever its batch."""
    if not hasattr(built, "features"):
        return
    maps, first = built.features(x, c, {}), built.features(x[:2], c[:2], {})
    require(len(maps) > 0 and all(m.ndim == 4 and len(m) == 3 for m in maps), "features are no maps (B, C, H, W)")
    sizes = [m.shape[2] * m.shape[3] for m in maps]
    require(sizes == sorted(sizes, reverse=True), "features are not from the finest to the coarsest")
    alike = (torch.allclose(m[:2], one, rtol=1e-4, atol=1e-4) for m, one in zip(maps, first, strict=True))
    require(all(alike), "features depend on the batch")


def dataset(component: Any) -> None:
    """Batches as the spec says, the same content under the same identity, nothing held out that is trained on."""
    data, again = registry.build(component, Setup()), registry.build(component, Setup())
    require(data.identity == again.identity, "its identity changes")
    from genkit.keys import Key

    batch = data.batch(torch.arange(2), Key(0))
    require(tuple(batch.x.shape) == (2, *data.spec.shape), "samples are not of the spec's shape")
    require(str(batch.x.dtype) == f"torch.{data.spec.dtype}", "samples are not of the spec's dtype")
    images = data.decode(torch.zeros(2, *data.spec.shape))
    require(images.dtype == torch.uint8 and len(images) == 2, "decode does not give uint8 images")
    if data.held_out is not None:
        require(data.held_out.spec == data.spec, "what is held out has another spec")
        require(data.held_out.identity != data.identity, "holds out what it trains on")


def optimizer(component: Any) -> None:
    """Takes each weight once, minimises a parabola, scales its rate within [0, 1], goes on as if uninterrupted."""
    scales = [component.lr_scale(k, 100) for k in range(100)]
    require(all(0 <= s <= 1 for s in scales), "lr_scale leaves [0, 1]")

    weights = [(f"layer.{n}", torch.nn.Parameter(torch.zeros(n * [2]))) for n in range(4)]
    taken = [p for group in component.optimizer(weights).param_groups for p in group["params"]]
    require(sorted(map(id, taken)) == sorted(id(p) for _, p in weights), "does not take each weight once")

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
    require(bool((p.abs() < torch.tensor([3.0, 2.0])).all()), "does not go downhill")
    require(torch.equal(p, q), "does not go on from its state")


def ema(component: Any) -> None:
    """0 <= beta < 1 at every step."""
    betas = [component.beta(k, 64) for k in (0, 1, 10, 1000, 10**6)]
    require(all(0 <= beta < 1 for beta in betas), f"beta leaves [0, 1): {betas}")


def features(component: Any) -> None:
    """(B, D) by name, one row per image whatever the batch."""
    extract = registry.build(component, context())
    images = torch.randint(256, (6, 1, 8, 8), dtype=torch.uint8)
    whole, first = extract(images), extract(images[:2])
    for name, values in whole.items():
        require(values.ndim == 2 and len(values) == 6, f"{name} is not (B, D)")
        require(torch.allclose(values[:2], first[name], atol=1e-5), f"{name} depends on the batch")


def metric(component: Any) -> None:
    """Figures are finite numbers, the same however samples are split; what is kept of the data stands for them."""
    require(getattr(type(component), "better", None) in ("lower", "higher"), "`better` is neither lower nor higher")
    extract = registry.build(component.features, context())

    def feed(accumulator: Any, images: torch.Tensor, real: bool | str) -> None:
        accumulator.update(Sampled(images, extract(images), {}), real)

    real, fake = torch.randint(256, (2, 60, 1, 8, 8), dtype=torch.uint8)
    whole, left, right = (registry.build(component, context()) for _ in range(3))
    for accumulator in (whole, left):
        feed(accumulator, real, True)
        feed(accumulator, real.flip(0)[:30], "held-out")
    feed(whole, fake, False)
    feed(left, fake[:25], False)
    feed(right, fake[25:], False)
    left.merge(right)
    one, two = whole.compute(), left.compute()
    require(one.keys() == two.keys() and len(one) > 0, "figures change with the split")
    for name, value in one.items():
        require(abs(value - two[name]) <= 1e-8 * max(1, abs(value)), f"{name} changes with the split")
    if hasattr(whole, "reference"):
        again = registry.build(component, context())
        require(again.refer(whole.reference()) is True, "refuses its own reference")
        feed(again, fake, False)
        for kept, fed in ((again.compute(), one), (_floors(again), _floors(whole))):
            require(kept.keys() == fed.keys(), "its reference loses figures")
            require(all(abs(kept[n] - v) <= 1e-8 * max(1, abs(v)) for n, v in fed.items()), "its reference differs")


def _floors(accumulator: Any) -> dict[str, float]:
    return accumulator.floors() if hasattr(accumulator, "floors") else {}


def protocol(component: Any) -> None:
    """Quantises to uint8, never downwards as levels rise, clips, and names whole counts."""
    levels = torch.linspace(-1.5, 1.5, 3001).reshape(1, 1, 1, -1)
    images = component.quantise(levels)
    require(images.dtype == torch.uint8 and images.shape == levels.shape, "does not give uint8 of the same shape")
    require(bool((images.int().diff() >= 0).all()), "a brighter pixel comes out darker")
    require(images.flatten()[0] == 0 and images.flatten()[-1] == 255, "does not clip to 0 … 255")
    require(component.samples >= 2 and component.seeds >= 1, "needs at least 2 samples and 1 seed")


def objective(component: Any) -> None:
    """A program that holds its student once, gives a value per sample, and a gradient to every group."""
    from genkit.keys import Key
    from genkit.kinds import Batch

    require(isinstance(getattr(component, "predicts", None), str), "does not say what its model `predicts`")
    require(component.predicts == component.sampler.needs, "its own sampler does not fit what it predicts")
    program = registry.build(component, context())
    require(isinstance(program, Program) and isinstance(program.student, Denoiser), "is no Program with a student")
    pointers = [t.data_ptr() for t in program.state_dict().values() if t.numel()]
    require(len(pointers) == len(set(pointers)), "its state holds a tensor twice")
    batch = Batch(torch.randn(8, 1, 8, 8), {})  # for those with groups of samples, too
    for phase, params in program.groups().items():
        k = next((k for k in range(3, 10**6) if program.acts(phase, k)), -1)
        require(k > 0, f"group {phase} never acts")
        program.zero_grad()
        values = program(batch, k, Key(0, k).during(phase)).values
        require(values.shape == (8,) and bool(torch.isfinite(values).all()), "not one finite value per sample")
        values.mean().backward()
        require(any(p.grad is not None for _, p in params), f"group {phase} gets no gradient")
        again = program(batch, k, Key(0, k).during(phase)).values
        require(torch.equal(again, values), "the same key gives other draws")


def sampler(component: Any) -> None:
    """As many network calls as it says, sample i whatever the batch."""
    calls = []

    def denoiser(x: torch.Tensor, sigma: torch.Tensor, cond: Any = None, to: Any = None) -> torch.Tensor:
        calls.append(sigma)
        return x / (1 + sigma.reshape(-1, 1, 1, 1))

    require(isinstance(getattr(component, "needs", None), str), "does not say what model it `needs`")
    draw = registry.build(component, context(attrs.evolve(SPEC, classes=3)))
    z = [torch.randn(4, 1, 8, 8) for _ in range(8)]
    for steps in (1, 2, 3):
        calls.clear()
        whole = draw(denoiser, lambda j: z[j], {}, steps)
        require(len(calls) == draw.nfe(steps), f"{len(calls)} network calls, nfe says {draw.nfe(steps)}")
        part = draw(denoiser, lambda j: z[j][:2], {}, steps)
        require(torch.allclose(whole[:2], part), "a sample depends on its batch")
