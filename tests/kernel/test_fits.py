"""What depends on two tables is told when a recipe is checked, before anything is begun."""

import attrs
import pytest

import genkit
from genkit.errors import RecipeError
from genkit.kernel import registry
from genkit.kernel.identity import differences
from genkit.kernel.loading import load_recipe

BEST = ["evaluate.every_steps=5", "metrics.fd.use=fd", "evaluate.steps=[1]"]


def problems(*words, recipe="ict_ring"):
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, words)
    return caught.value.problems


@pytest.mark.parametrize("levels", ["[100]", "[0.5, 0.8]", "[80.0]", "[0.8, 0.8]", "[0.002]", "[5, 1, 0.001]"])
def test_levels_of_a_sampler_fall_within_the_range(levels):
    told = problems(f"sampler.levels={levels}")
    assert len(told) == 1 and "\n" not in told[0]
    assert (
        told[0].startswith("command line sampler.levels: [") and "do not fall from 80.0 to above 0.002; list" in told[0]
    )


def test_levels_are_held_against_the_recipes_own_range():
    load_recipe("ict_ring", ["sampler.levels=[0.5]"])
    assert "do not fall from 0.4" in problems("sampler.levels=[0.5]", "levels.sigma_max=0.4")[0]


def test_default_levels_count_where_steps_ask_for_them():
    load_recipe("ict_ring", ["levels.sigma_max=0.4", "evaluate.steps=[1]"])
    assert "do not fall from 0.4" in problems("levels.sigma_max=0.4", "evaluate.steps=[1, 2]")[0]


def test_noise_is_added_at_levels_that_are_there():
    load_recipe("edm_digits", ["sampler.S_churn=10", "sampler.S_min=0.05", "sampler.S_max=50"])
    load_recipe("edm_digits", ["sampler.S_min=100"])  # no noise, no matter
    assert (
        "no level lies from 100.0 to 80.0"
        in problems("sampler.S_churn=10", "sampler.S_min=100", recipe="edm_digits")[0]
    )
    words = ("sampler.S_churn=10", "sampler.S_min=5", "sampler.S_max=1")
    assert "no level lies from 5.0 to 1.0" in problems(*words, recipe="edm_digits")[0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            [*BEST, "evaluate.best=fd.fdd@1"],
            "no figure 'fd.fdd@1'; figures: fd.fd, fd.fd_held_out; numbers of steps: 1",
        ),
        ([*BEST, "evaluate.best=fid.fd@1"], "no figure 'fid.fd@1'; figures: fd.fd"),
        ([*BEST, "evaluate.best=fd.fd@2"], "no figure 'fd.fd@2'; figures: fd.fd"),
        ([*BEST, f"evaluate.best=fd.fd@{'9' * 5000}"], "no figure 'fd.fd@9"),
        ([*BEST, "evaluate.best=fd.fd@1", "evaluate.every_steps=0"], "set evaluate.every_steps"),
        (
            [*BEST, "evaluate.best=pr.recal@1", "metrics.pr.use=precision-recall"],
            "fd.fd_held_out, pr.precision, pr.recall",
        ),
    ],
)
def test_a_best_figure_that_will_not_be_there_is_told(words, told):
    found = problems(*words)
    assert len(found) == 1 and found[0].startswith("command line evaluate.best: ") and told in found[0]


def test_best_figures_that_will_be_there_pass():
    for best in ("fd.fd@1", "fd.fd_held_out@1"):
        load_recipe("ict_ring", [*BEST, f"evaluate.best={best}"])


def test_a_metric_that_does_not_tell_its_figures_is_believed(monkeypatch):
    monkeypatch.delattr(registry.load(registry.find("metric", "fd")), "figures")
    load_recipe("ict_ring", [*BEST, "evaluate.best=fd.anything@1"])


def test_figures_are_those_that_a_metric_makes():
    """What `figures` says is what an evaluation has, floors apart."""
    for (kind, name), info in registry.components().items():
        if kind == "metric":
            doc = registry.load(info).__doc__
            own = {"cmmd": {"features": genkit.component("features", "pixels")}}  # by default those of a file
            figures = genkit.component("metric", name, **own.get(name, {})).figures
            assert figures and all(f"{figure}:" in doc or f"{figure}," in doc for figure in figures), name


def test_every_component_that_fits_is_asked_and_all_problems_are_told(monkeypatch):
    asked = []

    def fits(self, recipe):
        asked.append(recipe.train.steps)
        raise RecipeError("c", "does not fit", "try another")

    monkeypatch.setattr(registry.load(registry.find("loss", "pseudo-huber")), "fits", fits, raising=False)
    told = problems("sampler.levels=[100]", "loss={use='pseudo-huber', c=0.1}", "train.steps=7")
    assert asked == [7] and len(told) == 2
    assert any(line == "command line loss.c: does not fit; try another" for line in told)


def test_the_differences_of_two_recipes_are_named():
    old = load_recipe("ict_ring")
    new = load_recipe("ict_ring", ["loss.c=0.25", "train.seed=3", "teacher=ema", "evaluate.samples=9", "name=other"])
    found = differences(old, new)
    assert [line.partition(" ")[0] for line in found] == ["loss.c", "teacher", "train.seed"]
    assert "train.seed (default there, 3 here)" in found
    assert differences(old, old) == [] and differences(old, attrs.evolve(old, name="x")) == []
