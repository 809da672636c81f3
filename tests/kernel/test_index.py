"""The index of known plugins: true for what is installed, and what names a missing plugin."""

import json
import subprocess
import sys

import pytest

import genkit
from genkit.cli import main
from genkit.errors import PluginError, RecipeError
from genkit.kernel import index, loading
from genkit.testing import present, provide
from genkit_components import index as making


def test_the_index_is_what_is_installed():
    installed = {d: entry for d, entry in making.of_installed().items() if d.startswith("genkit-lab-")}
    assert installed == {d: entry for d, entry in index.known().items() if d in installed}, (
        "make it anew: genkit plugins index --write"
    )
    offered = {}
    for (kind, name), info in genkit.components().items():
        offered.setdefault(info.distribution, {}).setdefault(kind, set()).add(name)
    for distribution, kinds in offered.items():
        assert {k: set(names) for k, names in index.known()[distribution]["components"].items()} == kinds


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """An index that knows a plugin of others, which is not installed."""
    entry = {"commands": ["glow"], "kinds": ["lamp"], "recipes": ["lamps"], "components": {"loss": ["lumen"]}}
    (tmp_path / "index.json").write_text(json.dumps({"their-lamps": entry}))
    monkeypatch.setattr(index, "FILE", tmp_path / "index.json")
    index.known.cache_clear()
    yield
    index.known.cache_clear()


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda: genkit.component("loss", "lumen"), "loss 'lumen'"),
        (lambda: genkit.component("lamp", "bright"), "kind 'lamp'"),
        (lambda: loading.find("lamps"), "recipe 'lamps'"),
        (lambda: genkit.load_recipe("ict_digits", swaps=["loss=lumen"]), "loss 'lumen'"),
    ],
)
def test_a_missing_plugin_is_named_for_whatever_it_offers(ask, what):
    name = what.split()[1]
    with pytest.raises((PluginError, RecipeError)) as caught:
        ask()
    kind = what.split()[0]
    assert f"no {kind} named {name}: it is provided by their-lamps, which is not installed" in str(caught.value)


@pytest.mark.usefixtures("elsewhere")
def test_a_missing_command_names_its_plugin(capsys):
    with pytest.raises(SystemExit) as left:
        main(["glow"])
    line = capsys.readouterr().err
    assert left.value.code == 3 and "no command named 'glow': it is provided by their-lamps" in line
    assert line.count("\n") == 1


@pytest.mark.usefixtures("elsewhere")
def test_writing_keeps_the_entries_of_what_is_not_installed(tmp_path):
    (tmp_path / "probe_dim.py").write_text(
        "from genkit.hookspecs import hookimpl, lazy\nGENKIT_API = 1\n"
        "@hookimpl\ndef genkit_loss():\n    return {'dim': lazy('probe_dim:Dim', 'Dim.')}\n"
    )
    with present(provide(tmp_path, "dim", "probe_dim")):
        known = json.loads(making.written().read_text())
    assert known["their-lamps"]["commands"] == ["glow"]
    assert known["genkit-probe-dim"]["components"] == {"loss": ["dim"]}
    assert known["genkit-lab-ict"]["components"]["loss"] == ["pseudo-huber"]


def test_without_plugins_ablate_says_who_brings_it():
    command = [sys.executable, "-m", "genkit", "ablate", "--swap", "loss=l2", "--plugins", ""]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3 and "provided by genkit-lab-studies" in done.stderr and done.stderr.count("\n") == 1
