"""What a notebook shows of samples, runs and studies, and the progress that it, and a terminal, show meanwhile."""

import io
import re
import sys
import types

import pytest
import torch

import genkit
from genkit.errors import DataError, RecipeError
from genkit.runs import callbacks
from genkit_reports import live, notebook

FEW = ["train.steps=12", "evaluate.samples=200", "train.batch_size=16", "network.width=16", "train.log_every_steps=4"]
BY_HAND = {
    "name": "hand", "dataset": "ring", "objective": {"use": "consistency", "network": "mlp"}, "train": {"steps": 10},
    "metrics": {"fd": {"use": "fd", "features": "pixels", "floor": False}}, "evaluate": {"samples": 100, "steps": [1]},
}  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def kernel(monkeypatch):
    """A stand-in for a notebook: what its cell shows, in order."""
    drawn = []
    handle = types.SimpleNamespace(update=drawn.append)
    shell = types.SimpleNamespace(kernel=object())
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    ipython.display = types.ModuleType("IPython.display")
    ipython.display.HTML, ipython.display.display = str, lambda html, display_id: handle
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    return drawn


# ---- progress --------------------------------------------------------------------------------------


def test_a_run_shows_a_bar_in_a_notebook_and_leaves_its_notes(kernel):
    genkit.run(genkit.load_recipe("ict_ring", FEW))
    assert any("step 8/12" in html and 'value="8" max="12"' in html for html in kernel)
    assert kernel[-1] == ""
    with live.in_cell() as watch:
        watch({"event": "notice", "text": "a < b"})
    assert kernel[-1] == "<div>note: a &lt; b</div>"


def test_a_run_shows_nothing_where_nobody_looks_on_or_asked(kernel, monkeypatch, capfd):
    told = []
    genkit.run(genkit.load_recipe("ict_ring", FEW), watch=told.append)
    genkit.run(genkit.load_recipe("ict_ring", [*FEW, "train.seed=1"]), progress=False)
    assert kernel == [] and {"start", "step", "evaluated", "end"} <= {event["event"] for event in told}
    monkeypatch.delitem(sys.modules, "IPython")
    genkit.run(genkit.load_recipe("ict_ring", [*FEW, "train.seed=2"]))
    assert capfd.readouterr() == ("", "")


def test_a_terminal_gets_a_bar():
    terminal = Terminal()
    with live.progress(terminal) as watch:
        watch({"event": "start", "k": 0, "steps": 10})
        watch({"event": "notice", "text": "[not] markup"})
        watch({"event": "step", "k": 5, "figures": {"loss": 0.25}, "images_per_sec": 100.0, "left_sec": 61.0})
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "note: [not] markup" in said and "step 5/10" in said
    assert live.progress(io.StringIO()) is None


def test_a_watcher_that_is_given_is_the_one_that_is_told(kernel):
    given = []
    with callbacks.watching(given.append, True) as watch:
        watch({"event": "notice", "text": "a"})
    assert given == [{"event": "notice", "text": "a"}]


def test_a_study_shows_its_table_in_a_notebook(kernel):
    study = genkit.ablate("ict_ring", ["loss=l2"], FEW, seeds=[0, 1], jobs=1)
    assert any("4 trials: " in html and "loss=l2" in html for html in kernel) and kernel[-1] == ""
    html = study._repr_html_()
    assert "loss=l2" in html and "Fewer than three seeds" in html and str(study.folder) in html


# ---- pictures and tables -------------------------------------------------------------------------------


def test_samples_are_shown_as_one_picture():
    shown = notebook.show(torch.zeros(5, 3, 4, 6), columns=2)
    assert shown.picture.shape == (3, 3 * 5 + 1, 2 * 7 + 1)
    assert re.match(r"<img src='data:image/png;base64,[A-Za-z0-9+/=]+' alt='samples' width=315 ", shown._repr_html_())
    grey = notebook.show(torch.full((1, 1, 2, 2), 128, dtype=torch.uint8)).picture
    assert grey[0, 1:3, 1:3].unique().tolist() == [128]  # as it is, where it is uint8
    for wrong in (torch.zeros(3, 4, 4), torch.zeros(0, 1, 4, 4), [1]):
        with pytest.raises(DataError, match="these are no samples"):
            notebook.show(wrong)


def test_a_result_is_shown_with_figures_samples_and_notes():
    result = genkit.run(genkit.load_recipe("ict_ring", FEW))
    html = result._repr_html_()
    assert result.folder.name in html and html.count("<img") == 2 and "note:" not in html
    assert f"{result.figures['fd.fd@2']:.4g}" in html and "fd_floor" not in html
    again = genkit.run(genkit.load_recipe("ict_ring", [*FEW, "metrics.fd=false"]))  # the same run, without figures
    assert "<img" in again._repr_html_() and "note: this run is done" in again._repr_html_()


# ---- models without a run ------------------------------------------------------------------------------


def by_hand(steps=6):
    recipe = genkit.recipe_of(**BY_HAND)
    data = genkit.build(recipe.dataset, genkit.Setup(seed=0))
    program = genkit.build(recipe.objective, genkit.Context(spec=data.spec, total_steps=10))
    state = genkit.State.of(program, recipe.optimizer, recipe.ema)
    for _ in genkit.train(state, data, steps=steps, batch_size=64):
        pass
    return recipe, state


def test_a_loop_by_hand_becomes_a_run_that_is_evaluated_alike_and_gone_on_with():
    recipe, state = by_hand()
    folder = genkit.save(state, recipe)
    loose, kept = genkit.evaluate(state, recipe), genkit.evaluate(folder)
    assert loose["steps"]["1"]["figures"] == kept["steps"]["1"]["figures"]
    with state.sampled():
        assert genkit.evaluate(state.program.student, recipe)["steps"] == loose["steps"]
    assert torch.equal(genkit.sample(state, 8), genkit.sample(genkit.load(folder), 8))
    events = []
    result = genkit.run(recipe, watch=events.append)
    assert result.folder == folder and (events[0]["event"], events[0]["k"]) == ("resume", 6)


def test_a_state_of_another_recipe_is_not_saved():
    _, state = by_hand()
    other = genkit.recipe_of(**{**BY_HAND, "objective": {"use": "consistency", "network": {"use": "mlp", "width": 16}}})
    with pytest.raises(RecipeError, match="the recipe makes another"):
        genkit.save(state, other)
    with pytest.raises(RecipeError, match="a model without a run has no recipe"):
        genkit.evaluate(state)
