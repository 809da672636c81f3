"""What trackers are told of a run, and when."""

import json
import signal
from pathlib import Path

import pytest

import genkit
from genkit.errors import Diverged, Stopped
from genkit.runs import evaluating, loop, store
from genkit.testing import laws, present, provide
from genkit.training import checkpoint

PROBES = Path(__file__).parents[1] / "probes"
SMALL = ["network.model_channels=4", "network.num_blocks=1", "train.batch_size=8", "evaluate.samples=20"]
SMALL += ["evaluate.steps=[1]", "metrics.pr=false", "train.log_every_steps=4", "train.save_every_steps=4"]
SMALL += ["train.steps=8", "train.sample_every_steps=0", "trackers.mine.use=diary"]
TRAINING = ["N", "distance", "images_per_sec", "loss", "lr"]


@pytest.fixture(autouse=True)
def diary(tmp_path):
    with present(PROBES, provide(tmp_path / "site", "diary", "probe_diary")):
        yield


def run(*changes, **given):
    return genkit.run(genkit.load_recipe("ict_digits", [*SMALL, *changes]), "out", device="cpu", **given)


def lines(what=""):
    told = [json.loads(line) for line in Path("out/diary.jsonl").read_text().splitlines()]
    return [line for line in told if line["what"] == what] if what else told


def told():
    return [(line["what"], line.get("k")) for line in lines()]


def test_trackers_are_told_curves_evaluations_and_pictures_until_after_the_final_evaluation():
    result = run("evaluate.every_steps=4", "train.sample_every_steps=4")
    of_training = ("scalars", 4), ("images", 4), ("scalars", 4)
    at_the_end = ("scalars", 8), ("images", 8), ("images", 8), ("scalars", 8)
    assert told() == [("open", 0), *of_training, *at_the_end, ("close", None)]
    figures = [line["figures"] for line in lines("scalars")]
    assert set(TRAINING) <= set(figures[0]) and figures[1] == figures[3] == sorted(result.figures)
    assert {line["name"] for line in lines("images")} == {"samples-steps1"}
    assert lines("close") == [{"what": "close", "outcome": "done", "evaluations": 1}]


def test_a_finished_run_is_not_told_again():
    run()
    before = lines()
    run()
    assert lines() == before


def test_a_run_that_goes_on_is_the_same_to_its_trackers_and_one_begun_anew_another(monkeypatch):
    step = loop.train

    def until_5(state, *given):
        for figures in step(state, *given):
            if state.k == 5:
                signal.raise_signal(signal.SIGTERM)
            yield figures

    with monkeypatch.context() as within, pytest.raises(Stopped):
        within.setattr(loop, "train", until_5)
        run()
    run()
    run(fresh=True)
    anew = lines()
    Path("out").rename("anew")
    next(Path().glob("out.old*")).rename("out")
    first, again = lines("open")
    assert first["key"] == again["key"] != anew[0]["key"] and (first["k"], again["k"], anew[0]["k"]) == (0, 5, 0)
    assert [line["outcome"] for line in lines("close")] == ["preempted", "done"]


def test_where_only_the_final_evaluation_was_missing_it_is_told(monkeypatch):
    def lost(*given):
        raise OSError("killed")

    with monkeypatch.context() as within, pytest.raises(OSError, match="killed"):
        within.setattr(evaluating, "recorded", lost)
        run()
    assert lines("close")[-1]["outcome"] == "failed"
    Path("out/diary.jsonl").unlink()
    assert [checkpoint.step_of(p) for p in checkpoint.present(Path("out/checkpoints"))][-1] == 8
    run()
    assert told() == [("open", 8), ("images", 8), ("scalars", 8), ("close", None)]


def test_a_run_that_diverges_is_closed_as_such():
    with pytest.raises(Diverged):
        run("optimizer={use='adam', lr=1e30}")
    assert lines("close")[0]["outcome"] == "diverged"


@pytest.mark.parametrize("method", ["open", "scalars", "images", "close"])
def test_a_tracker_that_fails_is_dropped_and_no_other(method):
    run(f"trackers.bad={{use='diary', fails='{method}'}}")
    (notice,) = [e["text"] for e in store.events(Path("out")) if "tracker" in e.get("text", "")]
    assert notice == f"tracker bad is dropped: OSError: no connection, {method}"
    assert sum(line["what"] == "close" for line in lines()) == 1 + (method == "close")


def test_a_trial_tells_its_study_and_its_arm():
    run(trial=("losses", "loss=l2"))
    (opened,) = lines("open")
    assert (opened["study"], opened["arm"]) == ("losses", "loss=l2")
    assert store.summary(Path("out")).trial


def test_the_probe_is_a_lawful_tracker():
    laws.check(genkit.component("tracker", "diary"))
