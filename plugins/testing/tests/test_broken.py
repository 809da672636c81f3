"""Each law can fail, and then says which component, what came and what is owed."""

import random
import sys
import warnings

import attrs
import pytest
import torch
from torch import nn

import genkit
from genkit.denoiser import Scalings
from genkit.kinds import setting
from genkit.testing import laws
from genkit_testing import suite

BROKEN = []
IDLE = {"slots": 1, "cancel": lambda self, handles: None, "close": lambda self: None}


def broken(kind, *words):
    """What breaks a law of its kind, and words of the message."""

    def noted(made):
        BROKEN.append(pytest.param(kind, made, words, id=f"{kind}-{made.__name__}"))
        return made

    return noted


def of(**methods):
    """A component of any kind, which is what it builds, too."""
    built = type("Made", (), {"build": lambda self, context: self, **methods})
    return attrs.frozen(kw_only=True)(type("Wrong", (built,), {"__doc__": "Wrong.", "__annotations__": {}}))


@broken("loss", "float16 of shape (4,)", "finite float32 or float64")
def half():
    return of(__call__=lambda self, x, y, at=None: (x - y).flatten(1).square().mean(1).half())


@broken("loss", "shape (4, 64)", "one value per sample", "shape (4,)")
def unreduced():
    return of(__call__=lambda self, x, y, at=None: (x - y).flatten(1).square())


@broken("loss", "a gradient, also at x = y", "values from nan")
def root():
    return of(__call__=lambda self, x, y, at=None: (x - y).flatten(1).square().sum(1).sqrt())


@broken("loss", "depends on its batch")
def across():
    return of(__call__=lambda self, x, y, at=None: (x - y).flatten(1).square().mean(1) * (x - y).square().mean())


@broken("loss", "default generator")
def noisy():
    def call(self, x, y, at=None):
        random.random()
        return (x - y).flatten(1).square().mean(1)

    return of(__call__=call)


@broken("loss", "setting 'parts' holds a list", "a tuple in place of a list")
def unhashable():
    @attrs.frozen(kw_only=True)
    class Wrong:
        """Wrong."""

        parts: list[int] = setting(attrs.Factory(lambda: [1, 2]), "parts")

        def build(self, context):
            return lambda x, y, at=None: (x - y).flatten(1).square().mean(1)

    return Wrong


@broken("loss", "setting 'c' has no help")
def unexplained():
    @attrs.frozen(kw_only=True)
    class Wrong:
        """Wrong."""

        c: float = setting(1.0)

        def build(self, context):
            return lambda x, y, at=None: (x - y).flatten(1).square().mean(1)

    return Wrong


@broken("curriculum", "N(k) falls from 3 at step", "never falls")
def falling():
    return of(__call__=lambda self, k, total_steps: 3 if k < 150_000 else 2)


@broken("curriculum", "(float)", "a whole number from 2")
def fractional():
    return of(__call__=lambda self, k, total_steps: 11.0)


@broken("network", "float64", "finite float32")
def double():
    class Double(nn.Module):
        def forward(self, x, c_noise, cond):
            return x.double()

    return of(build=lambda self, context: Double())


@broken("network", "starts differently from the same context")
def unseeded():
    return of(build=lambda self, context: nn.Conv2d(1, 1, 1))


@broken("weighting", "values from 0", "weights above 0")
def zero():
    return of(__call__=lambda self, t, r=None, gap=None: 0 * t)


@broken("noise", "cdf(icdf(u)) is not u")
def lopsided():
    return of(cdf=lambda self, s: s.double() / (1 + s.double()), icdf=lambda self, u: u.double())


@broken("parameterization", "c_in", "one per level")
def scalar():
    return of(__call__=lambda self, sigma, to=None: Scalings(sigma, sigma, sigma.mean(), sigma))


@broken("path", "x_r is not x_t at r = t")
def home():
    return of(__call__=lambda self, x_t, t, r, x0, eps, cond: x0)


@broken("path", "depends on its batch")
def mixed():
    return of(__call__=lambda self, x_t, t, r, x0, eps, cond: x_t + (1 - r / t).reshape(-1, 1, 1, 1) * x0.mean(0))


@broken("teacher", "update changes the student's")
def meddling():
    def update(self, teacher, student, intervals):
        for p in student.parameters():
            p.data.zero_()

    return of(init=lambda self, student: student, update=update)


@broken("teacher", "init gave NoneType", "who answers")
def absent():
    return of(init=lambda self, student: None, update=lambda self, *told: None)


@broken("teacher", "shape (3, 1)", "clean data like x")
def curt():
    def answers(x, sigma, cond=None, to=None):
        return sigma.reshape(3, 1)

    return of(init=lambda self, student: answers, update=lambda self, *told: None)


@broken("pairs", "r is", "0 <= r < t")
def reversed_():
    return of(__call__=lambda self, noise, n, draw: 3 * [noise.icdf(draw()).float()])


@broken("coupling", "noise like eps")
def lost():
    from genkit.kinds import Coupled

    return of(__call__=lambda self, x0, eps, cond, n=0: Coupled(eps[:2]))


@broken("optimizer", "lr_scale gave 2 at step 0 of 100")
def warm():
    return of(lr_scale=lambda self, k, total_steps: 2, optimizer=lambda self, params: None)


@broken("ema", "beta gave 1 at step 0")
def frozen():
    return of(beta=lambda self, k, batch_size: 1)


@broken("features", "(6, 1, 8, 8)", "(B, D)")
def maps():
    return of(__call__=lambda self, images: {"pool": images.float()})


@broken("protocol", "float32", "uint8")
def unrounded():
    return of(samples=10, seeds=1, shape=None, quantise=lambda self, x0: x0)


@broken("sampler", "network calls in 1 steps", "nfe(1) = 2")
def miscounted():
    def call(self, denoiser, draw, cond, steps):
        return denoiser(80 * draw(0), torch.full((len(draw(0)),), 80.0), cond)

    return of(needs="denoised", __call__=call, nfe=lambda self, steps: 2)


@broken("tracker", "without scalars", "a session")
def silent():
    return of(open=lambda self, run: object())


@broken("tracker", "scalars changed", "figures left as they are")
def greedy():
    unused = dict.fromkeys(("images", "close"), lambda self, *told: None)
    return of(open=lambda self, run: self, scalars=lambda self, k, figures: figures.clear(), **unused)


@broken("launcher", "poll gave 0 for `genkit --no-such-option`", "its exit code, 2")
def hopeful():
    def submit(self, name, jobs):
        for job in jobs:
            job.log.parent.mkdir(exist_ok=True)
            job.log.write_text("genkit 1\n")
        return [f"{name}.{i}" for i in range(len(jobs))]

    return of(submit=submit, poll=lambda self, handles: dict.fromkeys(handles, 0), **IDLE)


@broken("launcher", "under the same name", "the handles of before")
def forgetful():
    handles = iter("abc")
    return of(submit=lambda self, name, jobs: [next(handles)], poll=None, **IDLE)


@pytest.mark.parametrize(("kind", "made", "words"), BROKEN)
def test_what_is_wrong_is_named(kind, made, words, genkit_registry):
    genkit_registry(kind, "wrong", made())
    with pytest.raises(AssertionError) as raised:
        laws.check(genkit.component(kind, "wrong"))
    told = str(raised.value)
    assert "wrong" in told and kind in told, told
    for word in words:
        assert word in told, told


def test_what_raises_is_named_too(genkit_registry):
    genkit_registry("loss", "wrong", of(__call__=lambda self, x, y, at=None: 1 / 0))
    with pytest.raises(ZeroDivisionError) as raised:
        laws.check(genkit.component("loss", "wrong"))
    assert "loss" in "".join(raised.value.__notes__) and "wrong" in "".join(raised.value.__notes__)


def test_what_will_go_is_told_before_it_goes(genkit_registry):
    def build(self, context):
        warnings.warn("genkit.kinds.Old is deprecated", DeprecationWarning, stacklevel=1)

    genkit_registry("loss", "wrong", of(build=build))
    (law,) = [law for law in suite.of("genkit-probe-offered") if law.what == "loss wrong"]
    with pytest.raises(DeprecationWarning, match="Old is deprecated"):
        law.hold()


def test_no_class_stays_behind(genkit_registry):
    assert ("loss", "wrong") not in genkit.components()
    genkit_registry("loss", "wrong", of())
    assert ("loss", "wrong") in genkit.components() and "genkit_offered" in sys.modules


def test_every_kind_has_a_law_and_a_broken_component():
    assert {param.values[0] for param in BROKEN} | {"dataset", "metric", "objective"} == set(laws.LAWS)
    assert set(laws.LAWS) == set(genkit.kinds.KINDS)
