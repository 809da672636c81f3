"""Studies compared: tables for people and programs, and what they say."""

import csv
import json
import math

import attrs
import pytest

from genkit import cli
from genkit.kernel.loading import load_recipe
from genkit_studies import comparison, power, study, table
from genkit_studies.statistics import Effect
from genkit_studies.study import Arm, Study, Trial

FIGURES = {"baseline": [0.50, 0.60, 0.55], "good": [0.22, 0.27, 0.24], "same_&|": [0.52, 0.59, 0.54]}


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
    assert "Differences that matter: good (2.26 times better [1.84, 2.78])" in said
    assert "Within noise of the baseline: same_&|." in said
    assert "8 of 10 studies find 1.36 times better or worse; with one more, 1.47 times better or worse, as this" in said
    assert "look has spent the error: add several at once." in said


def test_an_arm_that_changes_more_than_its_name_is_marked_and_the_mark_explained(tmp_path):
    one = made(tmp_path)
    rows = comparison.compare(one)
    assert "*" not in str(table.table(one, rows)) and "also" not in table.note(rows)
    changes = ("optimizer: radam -> adam", "also optimizer.lr: 0.002 -> 0.0001")
    other = attrs.evolve(one, arms=(one.arms[0], attrs.evolve(one.arms[1], changes=changes), one.arms[2]))
    rows = comparison.compare(other)
    assert [row[0] for row in table.table(other, rows)[1:]] == ["baseline", "good *", "same_&|"]
    assert 'with a * changes more than its name says; "also" marks what' in table.note(rows)
    assert "- `good`: optimizer: radam -> adam; also optimizer.lr: 0.002 -> 0.0001" in table.markdown(other, rows)


def test_words_turn_ratios_so_that_a_factor_is_above_one():
    def told(value, low, high, way="lower", ratio=True, kind="interval"):
        return comparison.effect(Effect(value=value, low=low, high=high, ratio=ratio, kind=kind), way)

    assert told(2.0, 1.25, 4.0) == "2 times worse [1.25, 4]"
    assert told(0.5, 0.25, 0.8) == "2 times better [1.25, 4]"
    assert told(0.5, 0.25, 0.8, "higher") == "2 times worse [1.25, 4]"
    assert told(0.5, 0.25, 0.8, "") == "0.5 times [0.25, 0.8]"
    assert told(2.0, 1.5, 3.0, kind="range") == "2 times worse (1.5 to 3)"
    assert told(2.0, None, None, kind="none") == "2 times worse"
    assert told(-1.5, -2.0, 0.25, ratio=False) == "-1.5 [-2, +0.25], better"
    assert told(-1.5, -2.0, 0.25, "", ratio=False) == "-1.5 [-2, +0.25]"
    assert told(1.0, 0.5, 2.0) == "1 times [0.5, 2]"


def test_digits_never_hide_on_which_side_of_no_change_an_end_is():
    clear = Effect(value=1.02, low=1.0004, high=1.04, ratio=True, kind="interval")
    assert clear.clear and comparison.effect(clear, "lower") == "1.02 times worse [1.0004, 1.04]"
    noise = Effect(value=1.02, low=0.9996, high=1.04, ratio=True, kind="interval")
    assert noise.clear is False and comparison.effect(noise, "lower") == "1.02 times worse [0.9996, 1.04]"


def test_a_figure_that_can_be_negative_is_told_in_differences(tmp_path):
    one = made(tmp_path, {"baseline": [-0.1, 0.2, 0.1], "bad": [1.0, 1.3, 1.2]})
    assert table.table(one, comparison.compare(one))[2][3].startswith("+1.1 [")
    assert "bad (+1.1 [+0.754, +1.45], worse)" in table.markdown(one, comparison.compare(one))


def test_the_note_says_which_procedure_was_used(tmp_path):
    one = made(tmp_path)
    assert "Dunnett's test with the variance of all arms pooled, 95%." in table.note(comparison.compare(one))
    wild = made(tmp_path, {"baseline": [0.50, 0.60, 0.55], "wild": [0.1, 3.0, 0.9], "calm": [0.2, 0.21, 0.22]})
    rows = comparison.compare(wild)
    assert "Welch's test with each arm's own variance" in table.note(rows)
    said = " ".join(comparison.sentences(wild, rows))
    assert "Seeds of wild scatter 24 times as much as those of the other arms" in said
    assert "8 of 10 studies" not in said  # the forecast is for arms that are alike
    noisy = made(tmp_path, {"good": [0.1, 3.0, 0.9], "a": [0.2, 0.21, 0.22], "b": [0.2, 0.21, 0.22]})
    assert "Seeds of good scatter" in " ".join(comparison.sentences(noisy, comparison.compare(noisy)))


def test_two_seeds_look_like_a_range_and_have_no_verdict(tmp_path):
    one = made(tmp_path, seeds=(0, 1))
    rows = comparison.compare(one)
    assert table.table(one, rows)[2][2:] == ["0.244 (0.22 to 0.27)", "2.25 times better (1.85 to 2.73)"]
    said = " ".join(comparison.sentences(one, rows))
    assert "no verdict: good, same_&|." in said and "matter" not in said
    assert "With 2 seeds, 8 of 10 studies find nothing; with one more" in said
    assert "which is no interval" in table.note(rows)
    assert "which is no interval" not in table.note(comparison.compare(made(tmp_path)))
    assert comparison.looked(one) == one  # no verdict, no look


def test_seeds_added_after_a_look_spend_what_error_is_left(tmp_path):
    seeds = (0, 1, 2, 3)
    more = {label: [*values, values[0] * 1.1] for label, values in FIGURES.items()}
    once = comparison.looked(made(tmp_path))
    assert (once.looks, once.planned) == ((3,), 3) and comparison.looked(once) == once
    fresh = made(tmp_path, more, seeds)
    again = attrs.evolve(fresh, looks=once.looks, planned=once.planned)
    assert (comparison.level(fresh), comparison.level(again)) == (pytest.approx(0.05), pytest.approx(0.01 / 4))
    assert comparison.looked(again).looks == (3, 4)
    assert comparison.level(comparison.looked(again)) == comparison.level(again)  # reported again, it is the same
    wide, narrow = (comparison.compare(s)[1].effects["fd.fd@1"] for s in (again, fresh))
    assert wide.low < narrow.low < narrow.high < wide.high
    said = " ".join(comparison.sentences(again, comparison.compare(again)))
    assert "A verdict with 4 seeds after looks at 3 may err in 0.25% of studies" in said
    assert "after looks" not in " ".join(comparison.sentences(fresh, comparison.compare(fresh)))


def test_a_verdict_before_all_planned_seeds_are_there_spends_little(tmp_path):
    figures = {label: [*values, *values] for label, values in FIGURES.items()}
    one = made(tmp_path, figures, tuple(range(6)))
    trials = [attrs.evolve(t, state="todo", figures={}) if t.arm == "good" and t.seed > 2 else t for t in one.trials]
    half = attrs.evolve(one, trials=tuple(trials))
    assert comparison.complete(half) == 3 and comparison.level(half) == pytest.approx(0.05 / 8)
    said = " ".join(comparison.sentences(half, comparison.compare(half)))
    assert "A verdict with 3 of 6 planned seeds may err in 0.62% of studies" in said
    assert comparison.level(attrs.evolve(one, looks=(3,), planned=6)) == pytest.approx(0.05 * 7 / 8)


def test_the_outlook_goes_by_the_noise_that_is_there_or_else_the_usual(tmp_path):
    one = made(tmp_path)
    bare = attrs.evolve(one, trials=tuple(attrs.evolve(t, state="todo", figures={}) for t in one.trials))
    assert comparison.outlook(bare) == [] and comparison.outlook(one) == comparison.outlook(one, 9.0)
    least, more = (f"{math.exp(0.35 * power.smallest(2, n)):.3g} times better or worse" for n in (3, 4))
    assert comparison.outlook(bare, 0.35) == [f"With 3 seeds, 8 of 10 studies find {least}; with one more, {more}."]
    assert comparison.outlook(attrs.evolve(bare, arms=bare.arms[:1]), 0.35) == []


def test_noise_of_evaluation_stands_beside_that_of_training(tmp_path):
    one = made(tmp_path)
    assert "noise" not in " ".join(table.table(one, comparison.compare(one))[0])
    by_seed = {"baseline-0": [0.4, 0.6], "baseline-1": [0.5, 0.7], "baseline-2": [0.45, 0.65]}
    trials = [attrs.evolve(t, by_seed={"fd.fd@1": v} if (v := by_seed.get(t.folder.name)) else {}) for t in one.trials]
    several = attrs.evolve(one, trials=tuple(trials))
    rows = comparison.compare(several)
    assert table.table(several, rows)[0][-1] == "noise of training, evaluation"
    assert [row[-1] for row in table.table(several, rows)[1:]] == ["0.05, 0.14", "–", "–"]
    said = table.markdown(several, comparison.compare(several))
    assert "Noise of baseline, as standard deviations: 0.05 of training, 0.14 of evaluation." in said
    assert table.latex(several, comparison.compare(several)).startswith(r"\begin{tabular}{llrrrrr}")
    line = next(csv.DictReader(table.comma_separated(several, comparison.compare(several)).splitlines()))
    assert (float(line["training_noise"]), float(line["evaluation_noise"])) == pytest.approx((0.05, 0.02**0.5))


def test_what_an_arm_costs_stands_in_the_files(tmp_path):
    one = made(tmp_path)
    costs = {"images_per_sec": 250.0, "memory": 1_500_000_000}
    trials = (attrs.evolve(one.trials[0], **costs), attrs.evolve(one.trials[1], **costs | {"images_per_sec": 500.0}))
    one = attrs.evolve(one, trials=(*trials, *one.trials[2:]))
    rows = comparison.compare(one)
    first, second = (line for line in table.markdown(one, rows).splitlines()[2:4])
    assert first.endswith("| 3 | 1.5 |") and second.endswith("| – | – |")  # (4 + 2) / 2 ms
    assert table.as_plain(one, rows)["rows"][0]["lines"][0]["memory_bytes"] == 1_500_000_000


def test_one_seed_claims_nothing(tmp_path):
    one = made(tmp_path, seeds=(0,))
    said = " ".join(comparison.sentences(one, comparison.compare(one)))
    assert "no noise estimate" in said and "matter" not in said
    assert "[" not in " ".join(cell for row in table.table(one, comparison.compare(one)) for cell in row)


def test_one_figure_fits_a_terminal(tmp_path):
    one = made(tmp_path)
    two = attrs.evolve(one, trials=tuple(attrs.evolve(t, figures={**t.figures, "fd.fd@2": 1.0}) for t in one.trials))
    whole, narrow = (table.table(two, comparison.compare(two), name) for name in ("", "fd.fd@2"))
    assert len(whole[0]) == 6 and narrow[0] == ["arm", "state", "fd.fd@2 (lower is better)", "against the baseline"]
    assert [row[2:] for row in narrow[1:]] == [row[4:] for row in whole[1:]]


def test_diverged_trials_are_counted_not_averaged(tmp_path):
    one = made(tmp_path, {"baseline": [0.5, 0.6, 0.7], "wild": [None, 0.9, None]})
    row = comparison.compare(one)[1]
    assert row.state == "1 done, 2 diverged"
    assert (row.figures["fd.fd@1"].mean, row.effects["fd.fd@1"].kind) == (0.9, "none")
    assert "1 done, 2 diverged" in table.markdown(one, comparison.compare(one))


def test_a_figure_that_is_not_finite_is_none(tmp_path):
    one = made(tmp_path, {"baseline": [0.5, 0.6, 0.7], "wild": [math.inf, 0.9, math.nan]})
    row = comparison.compare(one)[1]
    assert (row.state, row.figures["fd.fd@1"].mean, row.effects["fd.fd@1"].kind) == ("done", 0.9, "none")


def test_a_figure_that_no_trial_has_is_told(tmp_path):
    one = attrs.evolve(made(tmp_path), metric="fd.typo@1")
    assert comparison.sentences(one, comparison.compare(one))[0].startswith("No trial has a figure fd.typo@1")


def test_files_hold_the_same_numbers_escaped(tmp_path):
    one = made(tmp_path)
    assert sorted(path.name for path in table.write(one, comparison.compare(one))) == [
        "table.csv",
        "table.json",
        "table.md",
        "table.tex",
    ]
    lines = list(csv.DictReader((one.folder / "table.csv").read_text().splitlines()))
    rows = json.loads((one.folder / "table.json").read_text())["rows"]
    assert [float(line["mean"]) for line in lines] == [row["lines"][0]["mean"] for row in rows]
    assert float(lines[1]["effect"]) == pytest.approx(rows[1]["lines"][0]["effect"]) == pytest.approx(0.4421, abs=1e-4)
    assert [lines[1][key] for key in ("scale", "effect_interval", "procedure")] == ["ratio", "interval", "dunnett"]
    assert float(lines[1]["effect_low"]) < float(lines[1]["effect"]) < float(lines[1]["effect_high"]) < 1
    assert float(lines[1]["p"]) < float(lines[1]["level"]) == 0.05
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
    assert "No trial has figures yet." in table.markdown(todo, comparison.compare(todo))
    assert study.states(todo.of(todo.arms[0])) == "todo"
