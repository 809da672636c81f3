"""What a study shows while it runs."""

import io
import json
import sys
from pathlib import Path

import attrs
import pytest

from genkit.kernel.loading import load_recipe
from genkit.runs import store
from genkit_studies import comparison, progress
from genkit_studies.study import Arm, Study, Trial


@pytest.fixture
def study(tmp_path):
    """Two arms and two seeds: one trial done, one that runs and has taken 100 of 400 steps, two to do."""
    recipe = load_recipe("ict_ring", overrides=["train.steps=400"])
    arms = (Arm(label="baseline", recipe=recipe), Arm(label="loss=l2", changes=("loss: a -> b",), recipe=recipe))
    trials = [
        Trial(arm=arm.label, seed=seed, folder=tmp_path / f"{arm.label}-{seed}", id=f"{arm.label}{seed}")
        for arm in arms
        for seed in (0, 1)
    ]
    trials[0] = attrs.evolve(trials[0], state="done", figures={"fd.fd@1": 0.5}, seconds=40.0)
    trials[1] = attrs.evolve(trials[1], state="running")
    trials[1].folder.mkdir()
    store.event(trials[1].folder, event="start", k=0, steps=400)
    store.event(trials[1].folder, event="step", k=100, figures={"loss": 0.1})
    return Study(
        name="small", id="0123", folder=tmp_path / "small-0123", design="one-at-a-time", metric="fd.fd@1",
        arms=arms, seeds=(0, 1), trials=tuple(trials),
    )  # fmt: skip


def board(study):
    return progress.board(study, comparison.compare(study), progress.shares(study))


def ended(study, number, **how):
    trials = list(study.trials)
    trials[number] = attrs.evolve(trials[number], **how)
    return attrs.evolve(study, trials=tuple(trials))


def test_the_board_shows_each_trial_and_what_is_known(study):
    assert board(study) == [
        ["arm", "seed 0", "seed 1", "fd.fd@1", "against the baseline"],
        ["baseline", "0.5", "25%", "0.5", "–"],
        ["loss=l2", "·", "·", "–", "–"],
    ]
    store.event(study.trials[1].folder, event="step", k=400)
    assert board(study)[1][2] == "evaluating"
    worse = ended(ended(study, 2, state="done", figures={"fd.fd@1": 0.75}), 3, state="crashed", reason="it broke")
    assert board(worse)[2] == ["loss=l2", "0.75", "crashed", "0.75", "1.5 times worse"]


def test_many_seeds_are_counted(study):
    trials = [attrs.evolve(study.trials[0], seed=seed) for seed in range(7)]
    many = attrs.evolve(study, arms=study.arms[:1], seeds=tuple(range(7)), trials=tuple(trials))
    assert board(many)[0][:2] == ["arm", "trials"] and board(many)[1][:2] == ["baseline", "done"]


def test_the_time_left_is_of_what_is_open_spread_over_the_slots(study):
    share, trials = progress.shares(study), study.trials[1:]
    assert progress.left(study, trials, {}, 1, share) == pytest.approx(30 + 40 + 40)  # all as the one that is done
    assert progress.left(study, trials, {}, 1) == pytest.approx(3 * 40)
    assert progress.left(study, trials, {"loss=l2": {"seconds": 10.0, "evaluation": 2.0}}, 1, share) == pytest.approx(
        30 + 10 + 10
    )
    assert progress.left(study, trials, {"loss=l2": {"seconds": 10.0, "evaluation": 2.0}}, 4, share) == pytest.approx(
        30
    )  # no less than the longest
    assert progress.left(study, [], {}, 2, share) == 0


def test_what_crashed_before_is_open_until_it_has_run_again(study):
    planned = ended(study, 2, state="crashed", reason="then")
    for now, numbers in (
        (planned, [1, 2, 3]),
        (ended(planned, 2, state="running"), [1, 2, 3]),
        (ended(planned, 2, state="crashed", reason="now"), [1, 3]),
        (ended(planned, 1, state="done"), [2, 3]),
    ):
        assert progress.open_trials(planned, [1, 2, 3], now) == [now.trials[i] for i in numbers]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_has_the_table_and_elsewhere_there_are_lines(study, monkeypatch):
    crashed = ended(ended(study, 1, state="done", figures={"fd.fd@1": 0.7}), 2, state="crashed", reason="it [broke]")
    told = {}
    for kind in (Terminal, io.StringIO):
        monkeypatch.setattr(sys, "stderr", told.setdefault(kind, kind()))
        with progress.watching(study, [1, 2, 3], {}, 1) as watch:
            watch(crashed)
    table, lines = told[Terminal].getvalue(), told[io.StringIO].getvalue()
    assert "4 trials: 2 done, 1 to do, 1 failed; 0:00:20 left" in table and "25%" in table
    assert "loss=l2, seed 0: crashed: it [broke]" in table
    assert "baseline, seed 1: done" not in table  # the table shows it
    assert lines.splitlines() == [
        "baseline, seed 1: done  fd.fd@1 0.7  0:00:00",
        "loss=l2, seed 0: crashed: it [broke]",
    ]


def test_the_newest_step_is_told_from_the_end_of_the_events(tmp_path):
    assert progress.newest_step(tmp_path) == 0
    Path(tmp_path, "events.jsonl").write_text("".join(json.dumps({"k": k}) + "\n" for k in range(20_000)))
    assert progress.newest_step(tmp_path) == 19_999
