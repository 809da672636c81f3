"""Plugins: found without pip's help, isolated when broken, told apart when they clash."""

import subprocess
import sys

import pytest

import genkit
from genkit.errors import PluginError, RecipeError
from genkit.kernel import discovery, registry
from genkit.testing import present, provide

GOOD = """
import attrs
from genkit.hookspecs import hookimpl, lazy
from genkit.kinds import setting
GENKIT_API = 1

@hookimpl
def genkit_loss():
    return {"NAME": lazy("MODULE:Probe", "A probe.")}

@attrs.frozen(kw_only=True)
class Probe:
    "A probe."
    scale: float = setting(1.0, "a scale")
    def build(self, context):
        return lambda x, y, at=None: self.scale * (x - y).flatten(1).square().sum(1)
"""


def plugin(folder, name, text):
    module = f"probe_{name.replace('-', '_')}"
    (folder / f"{module}.py").write_text(text.replace("MODULE", module))
    return provide(folder, name, module)


@pytest.mark.parametrize(
    ("text", "state", "why"),
    [
        ("raise RuntimeError('boom')", "failed", "RuntimeError: boom"),
        ("import sys; sys.exit(3)", "failed", "SystemExit: 3"),
        ("def broken(:", "failed", "SyntaxError"),
        (GOOD.replace("genkit_loss", "genkit_los"), "failed", "genkit_los"),
        (GOOD.replace("GENKIT_API = 1", "GENKIT_API = 2"), "incompatible", "made for API 2"),
        (GOOD.replace("GENKIT_API = 1", ""), "incompatible", "made for API None"),
        (GOOD.replace("return {", "return 1 / 0 or {"), "failed", "ZeroDivisionError"),
        (GOOD.replace('lazy("MODULE:Probe", "A probe.")', "None"), "failed", "genkit_loss returned"),
        (
            GOOD.replace("genkit_loss", "genkit_commands").replace("MODULE:Probe", "nowhere"),
            "failed",
            "genkit_commands",
        ),
    ],
    ids=["raises", "exits", "syntax", "misspelt", "newer-api", "no-api", "raises-late", "offers-nothing", "no-target"],
)
def test_a_broken_plugin_is_one_line_and_harms_nobody_else(tmp_path, text, state, why):
    with present(plugin(tmp_path, "bad", text)):
        (bad,) = [p for p in discovery.installed().all if p.name == "bad"]
        assert bad.state == state and why in bad.why and "\n" not in bad.why
        assert ("loss", "pseudo-huber") in genkit.components()
        with pytest.raises((PluginError, RecipeError)) as caught:
            genkit.component("loss", "sublime")
        assert caught.value.exit_code == 3 and "genkit-probe-bad" in str(caught.value)


def test_a_component_that_cannot_be_imported_names_its_plugin_and_the_cause(tmp_path):
    text = GOOD.replace("MODULE:Probe", "nowhere.at.all:Probe").replace("NAME", "lost")
    with present(plugin(tmp_path, "lost", text)), pytest.raises(PluginError, match="genkit-probe-lost/lost.*nowhere"):
        genkit.component("loss", "lost")


def test_two_distributions_with_one_name_are_both_named_and_either_can_be_picked(tmp_path):
    first, _ = (plugin(tmp_path, n, GOOD.replace("NAME", "twin")) for n in ("one", "two"))
    with present(first):
        with pytest.raises(RecipeError, match="genkit-probe-one and genkit-probe-two"):
            genkit.component("loss", "twin")
        assert genkit.component("loss", "genkit-probe-two/twin").scale == 1.0
        assert ("loss", "genkit-probe-one/twin") in genkit.components()


def test_a_second_distribution_with_the_same_entry_point_name_is_not_skipped(tmp_path):
    plugin(tmp_path, "same", GOOD.replace("NAME", "a"))
    other = tmp_path / "genkit_probe_other-0.1.dist-info"
    other.mkdir()
    (tmp_path / "probe_second.py").write_text(GOOD.replace("NAME", "b").replace("MODULE", "probe_second"))
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: genkit-probe-other\nVersion: 0.1\n")
    (other / "entry_points.txt").write_text("[genkit]\nsame = probe_second\n")
    with present(tmp_path):
        assert {("loss", "a"), ("loss", "b")} <= set(genkit.components())


def test_plugins_can_be_left_out_and_unknown_names_are_errors(monkeypatch):
    monkeypatch.setenv("GENKIT_PLUGINS", "ict,ct")
    registry.forget()
    try:
        assert {p.name for p in discovery.installed().all if p.state == "loaded"} == {"ict", "ct"}
        monkeypatch.setenv("GENKIT_PLUGINS", "itc")
        registry.forget()
        with pytest.raises(PluginError, match="no plugin named 'itc'"):
            discovery.installed()
    finally:
        monkeypatch.undo()
        registry.forget()


def test_a_plugin_may_add_a_kind(tmp_path):
    text = """
import attrs
from genkit.hookspecs import hookimpl, lazy
GENKIT_API = 1
@hookimpl
def genkit_kinds(): return {"guidance": lazy("probe_kinds:KIND", "How samples are guided.")}
@hookimpl
def genkit_components(): return {"guidance": {"none": lazy("probe_kinds:Nothing", "No guidance.")}}
from genkit.kinds import Kind
KIND = Kind(False, object, "How samples are guided.")
@attrs.frozen(kw_only=True)
class Nothing:
    "No guidance."
"""
    with present(plugin(tmp_path, "kinds", text)):
        made = genkit.component("guidance", "none")
        assert genkit.build(made, None) is made and "guidance" in registry.kinds()


def test_the_command_line_survives_a_broken_plugin(tmp_path):
    plugin(tmp_path, "bad", "raise RuntimeError('boom')")
    for argv in (["--help"], ["plugins", "list"], ["recipe", "check", "ict_digits"]):
        done = subprocess.run(
            [sys.executable, "-m", "genkit", *argv],
            capture_output=True,
            text=True,
            env={**__import__("os").environ, "PYTHONPATH": str(tmp_path)},
            check=False,
        )
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr


def test_the_core_alone_says_what_is_missing():
    done = subprocess.run(
        [sys.executable, "-m", "genkit", "run", "ict_digits", "--plugins", ""],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3 and "provided by genkit-lab-images" in done.stderr and "Traceback" not in done.stderr
