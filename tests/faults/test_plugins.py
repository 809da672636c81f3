"""Broken plugins of every sort: they harm nobody else, and whoever needs one is told in a line which it is."""

import json
import textwrap
from pathlib import Path

import pytest
from driver import RING, Forked, documented, events, final, genkit, quiet, refused, told
from marks import point

from genkit.testing import provide

RUN = [*RING, "--out", "run"]


def plugin(text, name="bad"):
    """A folder with a distribution of one plugin."""
    folder = Path("site").absolute()
    provide(folder, name, f"probe_{name}")
    (folder / f"probe_{name}.py").write_text(textwrap.dedent(text))
    return [folder]


def component(kind, body, slot=None):
    """A plugin with one component, `bad`, whose class has this body."""
    return f"""
import attrs, os, sys, time, torch
from genkit.hookspecs import hookimpl, lazy
from genkit.kinds import slot
GENKIT_API = 1

@hookimpl
def genkit_{kind}():
    return {{"bad": lazy("probe_bad:Bad", "A component that is not what it owes.")}}

@attrs.frozen(kw_only=True)
class Bad:
    "A component that is not what it owes."
{textwrap.indent(textwrap.dedent(body), "    ")}
"""


# ---- while it is imported -------------------------------------------------------------------------

GOOD = """
from genkit.hookspecs import hookimpl, lazy
GENKIT_API = 1
@hookimpl
def genkit_loss():
    return {"mine": lazy("probe_bad:Mine", "Mine.")}
"""
FAILED = {
    "ImportError": "import nothing_of_that_name",
    "RuntimeError": "raise RuntimeError('two\\nlines')",
    "SystemExit": "raise SystemExit(0)",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "GeneratorExit": "raise GeneratorExit",
    "BaseException": "raise BaseException('of its own kind')",
    "RecursionError": "def f(): f()\nf()",
    "syntax": "def broken(:",
    "no text": "\0",
    "no API": GOOD.replace("GENKIT_API = 1", ""),
    "a newer API": GOOD.replace("GENKIT_API = 1", "GENKIT_API = 99"),
    "a hook misspelt": GOOD.replace("genkit_loss", "genkit_los"),
    "a hook with other arguments": GOOD.replace("genkit_loss()", "genkit_loss(nothing)"),
    "offers nothing": GOOD.replace('lazy("probe_bad:Mine", "Mine.")', "None"),
    "offers a number": GOOD.replace("return", "return 3 #"),
    "raises when asked": GOOD.replace("return", "1 / 0 #"),
    "exits when asked": GOOD.replace("return", "raise SystemExit(0) #"),
}
ESCAPED = {"KeyboardInterrupt", "GeneratorExit", "BaseException"}


@pytest.mark.parametrize("how", [pytest.param(h, marks=point(14, "traceback")) if h in ESCAPED else h for h in FAILED])
def test_a_plugin_that_cannot_be_imported_is_named_and_harms_nobody_else(how):
    path = plugin(FAILED[how])
    assert "run" in genkit("--help", path=path).out
    listed = genkit("plugins", "list", path=path).out
    (line,) = [line for line in listed.splitlines() if line.startswith("bad ")]
    assert "failed" in line or "incompatible" in line
    assert genkit("recipe", "check", "ict_ring", path=path).out == "ict_ring: fine\n"
    needed = Forked([*RUN, "loss=mine", "--dry-run"], path=path).wait()
    refused(needed, {3}, ["genkit-probe-bad"])


LOUD = {
    "print": "print('I am here')",
    "the file": "import os; os.write(1, b'I am here\\n')",
    "a warning": "import warnings; warnings.warn('I am here')",
    "logging": "import logging; logging.warning('I am here')",
}


@pytest.mark.parametrize("how", [pytest.param(h, marks=point(14, "on stdout")) if h[0] in "pt" else h for h in LOUD])
def test_what_a_plugin_says_while_it_is_imported_is_not_on_stdout(how):
    done = genkit("components", "list", path=plugin(LOUD[how] + "\nGENKIT_API = 1\n"))
    assert "I am here" not in done.out


def test_control_a_plugin_that_is_good_is_loaded_and_used():
    path = plugin(component("loss", STEP.format("pass")))
    (line,) = [line for line in genkit("plugins", "list", path=path).out.splitlines() if line.startswith("bad ")]
    assert "loaded" in line
    genkit(*RUN, "loss=bad", path=path)
    assert final("run")[0] == "step-0000060"


# ---- while it works -------------------------------------------------------------------------------

STEP = """
def build(self, context):
    def d(x, y, at=None):
        {}
        return (x - y).flatten(1).square().mean(1)
    return d
"""
NETWORK = """
def build(self, context):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 3)
        def forward(self, x, c_noise, cond=None):
            return self.layer(x.flatten(1))
    return Net()
"""
NOISE = """
def build(self, context):
    class Noise:
        def cdf(self, sigma): return sigma
        def icdf(self, u): return u[:3]
    return Noise()
"""
SAMPLER = """
needs = "consistency"
def build(self, context):
    class Sampler:
        def __call__(self, denoiser, draw, cond, steps):
            x = draw(0)
            return {}
        def nfe(self, steps): return {}
    return Sampler()
"""
OPTIMIZER = """
def optimizer(self, params): {}
def lr_scale(self, k, total_steps): return {}
"""
OBJECTIVE = """
predicts = "consistency"
sampler: object = slot("sampler", "consistency")
def build(self, context): return {}
"""
WRONG = {
    "loss without build": ("loss", "pass"),
    "loss that takes no `at`": ("loss", "def build(self, context): return lambda x, y: (x - y).flatten(1).mean(1)"),
    "loss of a wrong shape": ("loss", "def build(self, context): return lambda x, y, at=None: (x - y).square().mean()"),
    "loss that is None": ("loss", "def build(self, context): return lambda x, y, at=None: None"),
    "loss that raises": ("loss", STEP.format("if at is not None and at.k == 30: raise KeyError('mine')")),
    "loss that exits": ("loss", STEP.format("if at is not None and at.k == 30: raise SystemExit(0)")),
    "loss that exits with 3": ("loss", STEP.format("if at is not None and at.k == 30: sys.exit(3)")),
    "loss that interrupts": ("loss", STEP.format("if at is not None and at.k == 30: raise KeyboardInterrupt")),
    "curriculum of floats": ("curriculum", "def __call__(self, k, total_steps): return 10.5"),
    "curriculum of text": ("curriculum", "def __call__(self, k, total_steps): return 'ten'"),
    "network of a wrong shape": ("network", NETWORK),
    "scalings that are one": ("parameterization", "def build(self, context): return lambda sigma, to=None: sigma"),
    "sampler of a wrong shape": ("sampler", SAMPLER.format("x[:1]", 1)),
    "sampler that counts nothing": ("sampler", SAMPLER.format("x", None)),
    "optimizer that is none": ("optimizer", OPTIMIZER.format("return None", 1.0)),
    "optimizer with a rate of text": (
        "optimizer",
        OPTIMIZER.format("return torch.optim.SGD(dict(params).values(), 0.1)", "'1'"),
    ),
    "average without beta": ("ema", "pass"),
    "average of nothing": ("ema", "def beta(self, k, batch_size): pass"),
    "objective that builds a number": ("objective", OBJECTIVE.format(3)),
    "objective that builds no program": ("objective", OBJECTIVE.format("lambda *_: None")),
    "build that raises": ("loss", "def build(self, context): raise ValueError('mine')"),
    "build that gives None": ("loss", "def build(self, context): return None"),
    "teacher that is nothing": ("teacher", "def build(self, context): return 3"),
    "noise of a wrong shape": ("noise", NOISE),
    "pairs of a wrong shape": (
        "pairs",
        "def build(self, context): return lambda noise, n, draw: (draw()[:, None],) * 3",
    ),
}


@pytest.mark.parametrize("what", WRONG)
@point(10, "a bare error of Python, or exit code 0")
def test_a_component_that_owes_something_is_named_in_one_line(what):
    kind, body = WRONG[what]
    done = Forked([*RUN, f"{kind}=bad"], path=plugin(component(kind, body))).wait()
    refused(done, {1, 3}, [kind, "bad", "genkit-probe-bad"])
    assert not told("run", "start") or events("run")[-1]["event"] == "end"


@pytest.mark.parametrize("what", [w for w in WRONG if "30" not in WRONG[w][1]])
@point(10, "`--dry-run` tries no step, or has a bare error of Python")
def test_what_a_component_owes_is_found_by_a_dry_run(what):
    kind, body = WRONG[what]
    refused(Forked([*RUN, f"{kind}=bad", "--dry-run"], path=plugin(component(kind, body))).wait(), {1, 2, 3}, ["bad"])


HOOK = """
import sys
from genkit.errors import GenkitError
from genkit.hookspecs import hookimpl
GENKIT_API = 1
@hookimpl
def genkit_{}:
    {}
"""


NO = "raise RuntimeError('the guard says no')"


@pytest.mark.parametrize(
    ("hook", "does", "code", "names"),
    [
        ("run_start(folder, recipe, key)", NO, 3, ["the guard says no", "genkit-probe-bad"]),
        ("step_end(state, figures, key)", NO, 3, ["the guard says no", "genkit-probe-bad"]),
        ("checkpoint_saved(folder, checkpoint, key)", NO, 3, ["the guard says no", "genkit-probe-bad"]),
        ("evaluated(folder, figures, key)", NO, 3, ["the guard says no", "genkit-probe-bad"]),
        ("step_end(state, figures, key)", "raise GenkitError('step 7', 'the guard says no')", 1, ["the guard says no"]),
        ("step_end(state, figures, key)", "sys.exit(0)", 3, ["SystemExit", "genkit-probe-bad"]),
        ("run_start(folder, recipe, key)", "raise KeyboardInterrupt", 3, ["KeyboardInterrupt", "genkit-probe-bad"]),
    ],
)
@point(14, "the hook is left out, and the run goes on")
def test_a_hook_that_raises_ends_the_run_as_failed(hook, does, code, names):
    refused(Forked(RUN, path=plugin(HOOK.format(hook, does))).wait(), {code}, names)
    assert events("run")[-1]["event"] == "end" and events("run")[-1]["outcome"] == "failed"


def test_a_tracker_that_raises_is_dropped_and_told():
    body = "def open(self, run): raise OSError('no connection')"
    genkit(*RUN, "trackers.mine.use=bad", path=plugin(component("tracker", body)))
    assert [e for e in told("run", "notice") if "no connection" in e["text"]]


def test_a_tracker_of_the_contract_of_before_is_dropped_in_a_line_that_says_what_it_owes():
    body = "def open(self, folder, recipe): raise OSError('never reached')"
    genkit(*RUN, "trackers.mine.use=bad", path=plugin(component("tracker", body)))
    (line,) = [e["text"] for e in told("run", "notice") if "tracker mine" in e["text"]]
    assert "takes a folder and a recipe, as it did before; it is open(self, run)" in line


@point(14, "sampling needs the loss")
def test_a_run_whose_loss_is_gone_is_sampled_nevertheless():
    genkit(*RUN, "loss=bad", path=plugin(component("loss", STEP.format("pass"))))
    genkit("sample", "run", "--count", "4", "--out", "some")


@point(14, "the distribution is not named")
def test_a_run_whose_plugin_is_gone_names_the_distribution_that_it_was_made_with():
    genkit(*RUN, "loss=bad", path=plugin(component("loss", STEP.format("pass"))))
    refused(Forked(["run", "run/recipe.toml"]).wait(), {2, 3}, ["genkit-probe-bad"])


def test_two_plugins_that_offer_one_name_are_both_named():
    plugin(component("loss", STEP.format("pass")))
    path = plugin(component("loss", STEP.format("pass")).replace("probe_bad", "probe_twin"), "twin")
    refused(Forked([*RUN, "loss=bad"], path=path).wait(), {2, 3}, ["genkit-probe-bad", "genkit-probe-twin"])


def test_control_json_is_read_where_nothing_else_is_said():
    done = genkit("runs", "list", "--json")
    quiet(done)
    documented(done, {0})
    assert json.loads(done.out) == []
