"""What a component does wrong is told before a step is recorded, in a line that says who it is and what it owes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import genkit
from genkit.errors import PluginError
from genkit.testing import present, provide

MODULE = """
import random
import attrs, numpy, torch
from genkit.hookspecs import hookimpl, lazy
from genkit.kinds import setting

GENKIT_API = 1

def offer(name, text):
    return {name: lazy("probe_sly:" + name.title(), text)}
"""
BAD = {
    "curriculum": ("return 10.5", "(self, k, total_steps)", "gave 10.5 at step 0, no whole number from 2"),
    "loss": ("return (x - y).square().mean()", "(self, x, y, at=None)", "gave torch.float32 of shape () for 2 samples"),
    "weighting": ("return [1.0, 1.0]", "(self, t, r=None, gap=None)", "gave [1.0, 1.0] for 2 samples"),
    "path": ("return x0[:1]", "(self, x_t, t, r, x0, eps, cond)", "gave shape (1, 2, 1, 1) for (2, 2, 1, 1)"),
}


def sly(folder, kind, body, arguments, build="return self"):
    """A plugin with a component `sly` of a kind."""
    (folder / "probe_sly.py").write_text(
        f'''{MODULE}
@hookimpl
def genkit_{kind}():
    return offer("sly", "Sly.")

@attrs.frozen(kw_only=True)
class Sly:
    """Sly."""
    def build(self, context):
        {build}
    def __call__{arguments}:
        {body}
'''
    )
    return provide(folder, "sly", "probe_sly")


def refused(folder, kind, tmp_path):
    with present(folder), pytest.raises(PluginError) as caught:
        genkit.run(genkit.load_recipe("ict_ring", ["train.steps=20"], [f"{kind}=sly"]), tmp_path / "run")
    assert not (tmp_path / "run" / "events.jsonl").exists()
    return str(caught.value)


@pytest.mark.parametrize("kind", BAD)
def test_a_wrong_answer_is_told_with_slot_component_distribution_and_duty(tmp_path, kind):
    body, arguments, fault = BAD[kind]
    line = refused(sly(tmp_path, kind, body, arguments), kind, tmp_path)
    assert line.startswith(f"{kind} 'sly' of genkit-probe-sly: {fault}") and f"a {kind} owes: " in line


@pytest.mark.parametrize(
    ("kind", "body", "arguments", "says"),
    [
        ("loss", "return (x - y).flatten(1).mean(1)", "(self, x, y)", "TypeError"),
        ("loss", "raise SystemExit(0)", "(self, x, y, at=None)", "SystemExit: 0"),
        ("path", "raise KeyError('mine')", "(self, x_t, t, r, x0, eps, cond)", "KeyError: 'mine'"),
    ],
)
def test_what_a_component_raises_names_it(tmp_path, kind, body, arguments, says):
    line = refused(sly(tmp_path, kind, body, arguments), kind, tmp_path)
    assert "sly" in line and says in line and "\n" not in line


def test_a_component_without_build_is_named(tmp_path):
    folder = sly(tmp_path, "loss", "return 0", "(self, x, y, at=None)")
    module = folder / "probe_sly.py"
    module.write_text(module.read_text().replace("def build(", "def make("))
    assert "loss 'sly' of genkit-probe-sly: its class has no build" in refused(folder, "loss", tmp_path)


@pytest.mark.parametrize("draw", ["torch.randn_like(x0)", "random.gauss(0, 1)", "numpy.random.rand()"])
def test_draws_outside_keys_are_noticed_before_they_spoil_a_resumed_run(tmp_path, draw):
    body = f"return x0 + r.reshape(-1, 1, 1, 1) * eps + 0 * {draw}"
    line = refused(sly(tmp_path, "path", body, "(self, x_t, t, r, x0, eps, cond)"), "path", tmp_path)
    assert "draws from a default generator" in line
    assert line.startswith("path 'sly' of genkit-probe-sly")


def test_a_dry_run_tries_and_leaves_nothing(tmp_path):
    body, arguments, fault = BAD["curriculum"]
    folder = sly(tmp_path, "curriculum", body, arguments)
    command = [sys.executable, "-m", "genkit", "run", "ict_ring", "--swap", "curriculum=sly", "--dry-run"]
    env = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 3 and fault in done.stderr and not Path("runs").exists()


def test_what_is_printed_by_a_plugin_does_not_mix_with_results(tmp_path):
    folder = sly(tmp_path, "loss", "print('noise'); return (x - y).flatten(1).mean(1)", "(self, x, y, at=None)")
    module = folder / "probe_sly.py"
    module.write_text("print('loud')\n" + module.read_text())
    few = ["train.steps=4", "evaluate.samples=300", "--json"]
    command = [sys.executable, "-m", "genkit", "run", "ict_ring", "--swap", "loss=sly", *few]
    env = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    assert json.loads(done.stdout)["figures"] and "noise" in done.stderr and "loud" in done.stderr
