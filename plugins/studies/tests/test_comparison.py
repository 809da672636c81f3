"""Studies compared: tables for people and programs, and what they say."""

import csv
import json
import math

import attrs
import pytest

from genkit import cli
from genkit.kernel.loading import load_recipe
from genkit_studies import comparison, study
from genkit_studies.study import Arm, Study, Trial

FIGURES = {"baseline": [0.50, 0.60, 0.55], "good": [0.20, 0.31, 0.24], "same_&|": [0.52, 0.59, 0.54]}


def made(tmp_path, figures=FIGURES, seeds=(0, 1, 2)):
    recipe = load_recipe("ict_ring")
    arms = tuple(Arm(label=label, changes=("a: b -> c",) * (label != "baseline"), recipe=recipe) for label in figures)
    trials = tuple(
        Trial(
            arm=label, seed=seed, folder=tmp_path / f"{label}-{seed}", id=f"{label}{seed}", seconds=2.0,
            state="diverged" if value is None else "done", figures={} if value is None else {"fd.fd@1": value},
        )
        for label, values in figures.items()
        for seed, value in zip(seeds, values, strict=False)
    )  # fmt: skip
    return Study(
        name="small", id="0123", folder=tmp_path / "small-0123", design="one-at-a-time", metric="fd.fd@1",
        arms=arms, seeds=seeds, trials=trials,
    )  # fmt: skip


def test_sentences_say_what_matters_and_which_way(tmp_path):
    one = made(tmp_path)
    said = " ".join(comparison.sentences(one, comparison.compare(one)))
    assert "lower is better" in said
    assert "Differences that matter: good (-0.3, better)" in said
    assert "Within noise of the baseline: same_&|." in said


def test_noise_of_evaluation_stands_beside_that_of_training(tmp_path):
    one = made(tmp_path)
    assert "noise" not in " ".join(comparison.table(one, comparison.compare(one))[0])
    by_seed = {"baseline-0": [0.4, 0.6], "baseline-1": [0.5, 0.7], "baseline-2": [0.45, 0.65]}
    trials = [attrs.evolve(t, by_seed={"fd.fd@1": v} if (v := by_seed.get(t.folder.name)) else {}) for t in one.trials]
    several = attrs.evolve(one, trials=tuple(trials))
    rows = comparison.compare(several)
    assert comparison.table(several, rows)[0][-1] == "noise of training, evaluation"
    assert [row[-1] for row in comparison.table(several, rows)[1:]] == ["0.05, 0.14", "–", "–"]
    said = comparison.markdown(several)
    assert "Noise of baseline, as standard deviations: 0.05 of training, 0.14 of evaluation." in said
    assert comparison.latex(several).startswith(r"\begin{tabular}{llrrr}")
    line = next(csv.DictReader(comparison.comma_separated(several).splitlines()))
    assert (float(line["training_noise"]), float(line["evaluation_noise"])) == pytest.approx((0.05, 0.02**0.5))


def test_one_seed_claims_nothing(tmp_path):
    one = made(tmp_path, seeds=(0,))
    said = " ".join(comparison.sentences(one, comparison.compare(one)))
    assert "no noise estimate" in said and "matter" not in said
    assert "[" not in " ".join(cell for row in comparison.table(one, comparison.compare(one)) for cell in row)


def test_one_figure_fits_a_terminal(tmp_path):
    one = made(tmp_path)
    two = attrs.evolve(one, trials=tuple(attrs.evolve(t, figures={**t.figures, "fd.fd@2": 1.0}) for t in one.trials))
    whole, narrow = (comparison.table(two, comparison.compare(two), name) for name in ("", "fd.fd@2"))
    assert len(whole[0]) == 6 and narrow[0] == ["arm", "state", "fd.fd@2 (lower is better)", "difference"]
    assert [row[2:] for row in narrow[1:]] == [row[4:] for row in whole[1:]]


def test_diverged_trials_are_counted_not_averaged(tmp_path):
    one = made(tmp_path, {"baseline": [0.5, 0.6, 0.7], "wild": [None, 0.9, None]})
    row = comparison.compare(one)[1]
    assert row.state == "1 done, 2 diverged"
    assert (row.figures["fd.fd@1"].mean, row.differences["fd.fd@1"].estimate.n) == (0.9, 1)
    assert "1 done, 2 diverged" in comparison.markdown(one)


def test_a_figure_that_is_not_finite_is_none(tmp_path):
    one = made(tmp_path, {"baseline": [0.5, 0.6, 0.7], "wild": [math.inf, 0.9, math.nan]})
    row = comparison.compare(one)[1]
    assert (row.state, row.figures["fd.fd@1"].mean, row.differences["fd.fd@1"].estimate.n) == ("done", 0.9, 1)


def test_a_figure_that_no_trial_has_is_told(tmp_path):
    one = attrs.evolve(made(tmp_path), metric="fd.typo@1")
    assert comparison.sentences(one, comparison.compare(one))[0].startswith("No trial has a figure fd.typo@1")


def test_files_hold_the_same_numbers_escaped(tmp_path):
    one = made(tmp_path)
    assert sorted(comparison.write(one)) == ["table.csv", "table.json", "table.md", "table.tex"]
    lines = list(csv.DictReader((one.folder / "table.csv").read_text().splitlines()))
    rows = json.loads((one.folder / "table.json").read_text())["rows"]
    assert [float(line["mean"]) for line in lines] == [row["lines"][0]["mean"] for row in rows]
    assert float(lines[1]["difference"]) == pytest.approx(-0.3, abs=1e-9)
    assert r"same_&\|" in (one.folder / "table.md").read_text()
    tex = (one.folder / "table.tex").read_text()
    assert r"same\_\&|" in tex and r"\toprule" in tex and tex.count(r"\\") == 4


def test_the_command_makes_the_files_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GENKIT_RUNS", str(tmp_path))
    one = attrs.evolve(made(tmp_path), folder=tmp_path / "studies" / "small-0123")
    study.save(one)
    with pytest.raises(SystemExit) as left:
        cli.main(["ablate", "report", "small"])
    assert not left.value.code
    told = capsys.readouterr().out
    assert "Differences that matter: good" in told and str(one.folder / "table.tex") in told
    with pytest.raises(SystemExit) as left:
        cli.main(["ablate", "report", "small", "other"])
    assert left.value.code == 2


def test_a_study_without_figures_has_a_table(tmp_path):
    one = made(tmp_path)
    todo = attrs.evolve(one, trials=tuple(attrs.evolve(t, state="todo", figures={}) for t in one.trials))
    assert "No trial has figures yet." in comparison.markdown(todo)
    assert study.states(todo.of(todo.arms[0])) == "todo"
