"""Trained models, also where plugins that trained them are gone."""

import pytest

import genkit
from genkit.cli import main
from genkit.errors import GenkitError, PluginError
from genkit.kernel.loading import load_recipe
from genkit.testing import present, provide

MODULE = """
import attrs
from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1

@hookimpl
def genkit_loss():
    return {"gone": lazy("probe_gone:Gone", "Gone.")}

@attrs.frozen(kw_only=True)
class Gone:
    \"\"\"Gone.\"\"\"
    def build(self, context):
        return self
    def __call__(self, x, y, at=None):
        return (x - y).square().flatten(1).mean(1)
"""


@pytest.fixture
def orphan(tmp_path):
    """A run whose loss came from a plugin that is no longer there."""
    (tmp_path / "probe_gone.py").write_text(MODULE)
    with present(provide(tmp_path, "gone", "probe_gone")):
        few = ["train.steps=20", "evaluate.samples=300"]
        return genkit.run(load_recipe("ict_ring", few, ["loss=gone"]), tmp_path / "run").folder


def test_a_run_whose_loss_is_gone_can_be_sampled(orphan, tmp_path):
    x0 = genkit.sample(genkit.load(orphan), 5, steps=2)
    assert x0.shape == (5, 2, 1, 1) and bool(x0.isfinite().all())
    with pytest.raises(SystemExit) as left:
        main(["sample", str(orphan), "--count", "4", "--out", str(tmp_path / "a.png")])
    assert left.value.code == 0 and (tmp_path / "a.png").exists()


def test_what_needs_the_loss_says_which_distribution_it_was(orphan):
    with pytest.raises(PluginError, match=r"made with, genkit-probe-gone 0\.1 is not installed.*no loss named 'gone'"):
        genkit.evaluate(orphan)


def test_a_network_that_is_gone_is_missed(orphan):
    recipe = orphan / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('use = "mlp"', 'use = "lost"'))
    with pytest.raises(GenkitError, match="no network named 'lost'"):
        genkit.load(orphan)
