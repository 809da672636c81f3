"""A study is its name and its baseline, and grows: arms, seeds, samples and metrics come to it in its folder."""

import json
import re
from pathlib import Path

import attrs
import pytest

from genkit.kernel import discovery
from genkit.kernel.loading import load_recipe
from genkit.runs import planning as runs_planning
from genkit.runs import store
from genkit.training import checkpoint
from genkit_studies import ablation, comparison, estimate, growth, planning, progress, study, usual
from genkit_studies.study import Arm

L2, L1 = ("--swap", "loss=l2"), ("--swap", "loss=l1")


def begun():
    """How often each run was trained, or gone on with."""
    return {r.folder.name: sum(e["event"] in ("start", "resume") for e in store.events(r.folder)) for r in store.runs()}


def only():
    (folder,) = study.studies()
    return study.load(folder)


# ---- what comes to it ------------------------------------------------------------------------------


def test_arms_seeds_samples_and_metrics_come_to_one_study_and_nothing_is_trained_twice(ablate):
    ablate(*L2, "--seeds", "2")
    one = only()
    told = ablate(*L1, "--seeds", "3")
    assert "the study has loss=l2 already, and keeps it; --name begins another" in told.err
    two = only()
    assert two.folder == one.folder and [arm.label for arm in two.arms] == ["baseline", "loss=l2", "loss=l1"]
    assert two.seeds == (0, 1, 2) and "9 trials, 5 to run; about" in told.err
    assert {trial.state for trial in two.trials} == {"done"} and set(begun().values()) == {1}
    trained = {trial.id: trial.seconds - trial.evaluation for trial in two.trials}

    told = ablate(*L1, "evaluate.samples=150")
    clock = r"\d:\d\d:\d\d"
    assert re.search(rf"9 to run, 9 of them only evaluated, as they are trained \(about {clock}\)", told.err)
    assert len(re.findall(rf" 3 x {clock} to evaluate\n", told.err)) == 3
    assert re.search(rf"done .* {clock} to evaluate$", told.err.splitlines()[-1])
    more = only()
    assert more.folder == one.folder and len(more.trials) == 9 and set(begun().values()) == {1}
    assert all(trial.evaluation > 0 for trial in more.trials)
    assert {t.id: t.seconds - t.evaluation for t in more.trials} == pytest.approx(trained)
    assert all(a.figures != b.figures for a, b in zip(two.trials, more.trials, strict=True))

    ablate(*L1, 'metrics.again={use="fd"}')
    assert set(only().trials[-1].figures) >= {"fd.fd@1", "again.fd@1"} and set(begun().values()) == {1}
    told = ablate(*L2)  # as it was asked first: all that is on record
    assert "9 trials, 0 to run" in told.err and only().trials == two.trials


def test_another_name_or_baseline_is_another_study(ablate):
    few = ("--seeds", "1")
    ablate(*L2, *few)
    ablate(*L1, *few, "--name", "other")
    ablate(*L1, *few, "train.steps=8")
    assert sorted(folder.name.rpartition("-")[0] for folder in study.studies()) == ["ict_ring", "ict_ring", "other"]
    assert len(store.runs()) == 3 + 2  # the baseline is shared, where it is the same


def kept(arms, **more):
    plain = [{"label": a.label, "changes": a.changes, "recipe": a.recipe.tree()} for a in arms]
    return {"arms": plain, "seeds": [0, 1], **more}


def arm(label, *swaps):
    return Arm(label=label, recipe=load_recipe("ict_ring", ["train.steps=8"], list(swaps)))


def test_a_run_has_one_arm_and_a_label_one_run():
    base, l2, l1 = arm("baseline"), arm("squared", "loss=l2"), arm("absolute", "loss=l1")
    path = Path("study.json")
    found, notices = growth.arms(kept([base, l2, l1]), path, (base, arm("loss=l2", "loss=l2")))
    assert [a.label for a in found] == ["baseline", "loss=l2", "absolute"]
    assert notices == ("the study has absolute already, and keeps it; --name begins another",)
    found, notices = growth.arms(kept([base, l2]), path, (base, arm("squared", "loss=l1")))
    assert [a.label for a in found] == ["baseline", "squared"] and found[1].changes == ()
    assert notices == ("squared was another recipe before, and is no longer in the study",)
    assert growth.seeds(kept([base]), (3, 1)) == (0, 1, 3)
    assert growth.arms({}, path, (base, l2)) == ((base, l2), ())


def test_arms_of_before_are_evaluated_as_is_asked_now():
    base = arm("baseline")
    asked = Arm(
        label="baseline", recipe=load_recipe("ict_ring", ["train.steps=8", "evaluate.steps=[1]", "train.threads=1"])
    )
    (_, l2), _ = growth.arms(kept([base, arm("l2", "loss=l2")]), Path("study.json"), (asked,))
    assert l2.recipe.evaluate == asked.recipe.evaluate and l2.recipe.train == asked.recipe.train
    assert l2.changes == ("loss: pseudo-huber -> l2",)
    assert l2.recipe.protocol() == asked.recipe.protocol()


def test_an_arm_whose_plugin_is_gone_is_left_out_and_told():
    base = arm("baseline")
    gone = kept([base, arm("l2", "loss=l2")])
    gone["arms"][1]["recipe"]["loss"] = {"use": "of-a-plugin-that-is-gone"}
    found, (notice,) = growth.arms(gone, Path("study.json"), (base,))
    assert found == (base,) and notice.startswith("l2 is left out: ") and "\n" not in notice


def test_a_study_of_before_is_read_and_its_trials_are_found_again(ablate):
    ablate(*L2, "--seeds", "2")
    now = only()
    file = now.folder / "study.json"
    old = json.loads(file.read_text())
    for trial in old["trials"]:
        for name in ("trained", "evaluation"):
            del trial[name]
    for name in ("looks", "planned"):
        del old[name]
    file.unlink()
    earlier = now.folder.with_name("ict_ring-0123456789")
    earlier.mkdir()
    (earlier / "study.json").write_text(json.dumps(old, indent=1))
    was = study.load(study.find("0123456789"))
    assert [(t.id, t.figures) for t in was.trials] == [(t.id, t.figures) for t in now.trials]
    told = ablate(*L2, "--seeds", "2")
    assert "4 trials, 0 to run" in told.err and set(begun().values()) == {1} and len(study.studies()) == 2


def test_looks_are_kept_and_an_arm_that_is_added_takes_no_verdict_away(ablate):
    ablate(*L2, "--seeds", "3")
    assert (only().looks, only().planned) == ((3,), 3)
    asked = ablation.ask("ict_ring", ["loss=l1"], ["train.steps=24", "train.batch_size=16", "evaluate.samples=100"])
    planned = planning.plan(asked, "cpu")
    assert planned.folder == only().folder and planned.looks == (3,)
    assert [t.state for t in planned.trials].count("todo") == 3
    assert comparison.looks(planned) == (3,) and comparison.level(planned) == pytest.approx(0.05)
    ablate(*L2, "--seeds", "4")
    assert only().looks == (3, 4)


def test_an_arm_of_many_changes_has_its_lines_below_the_plan(ablate):
    told = ablate("--dry-run", "--swap", "recipe=ct_digits").out
    table, below = told.split("recipe=ct_digits: ")
    assert re.search(r"recipe=ct_digits +\d changes, below", table)
    assert "loss: pseudo-huber -> l2" in below and max(map(len, told.splitlines())) <= 120


# ---- time ------------------------------------------------------------------------------------------


def test_the_time_of_a_training_is_without_its_last_evaluation():
    events = [
        {"event": "start", "k": 0, "steps": 40, "time": 100.0},
        {"event": "evaluated", "k": 20, "seconds": 3.0, "time": 108.0},
        {"event": "step", "k": 20, "time": 110.0},
        {"event": "resume", "k": 20, "steps": 40, "time": 200.0},
        {"event": "evaluated", "k": 40, "seconds": 4.0, "time": 219.0},
        {"event": "end", "outcome": "done", "time": 220.0},
        {"event": "evaluated", "k": 40, "seconds": 50.0, "time": 400.0},
    ]
    assert planning.seconds(events) == 10 + 20 - 4


def test_what_a_training_costs_is_told_by_its_steps(ablate):
    told = [{"event": "step", "images_per_sec": r, "memory": m} for r, m in ((9.0, 7), (300.0, 9), (100.0, 9))]
    assert planning.cost([*told, {"event": "end"}]) == {"images_per_sec": 150.0, "memory": 9}
    assert planning.cost([{"event": "start"}]) == {"images_per_sec": 0.0, "memory": 0}
    ablate("--swap", "loss=l2")
    trial = only().trials[0]
    assert trial.images_per_sec > 0 and 1e7 < trial.memory < 1e12


def test_what_is_only_evaluated_is_estimated_so(ablate):
    ablate(*L2, "--seeds", "1")
    one = only()
    trials = [attrs.evolve(t, seconds=100.0, evaluation=7.0) for t in one.trials]
    many = attrs.evolve(one, trials=tuple(trials))
    base = many.arms[0]
    assert (progress.each(many, base, {}), progress.each(many, base, {}, trained=True)) == (100, 7)
    todo = [attrs.evolve(t, state="todo", trained=trained) for t, trained in zip(trials, (True, False), strict=True)]
    assert progress.left(many, todo, {}, 1) == pytest.approx(107)
    half = progress.left(many, [attrs.evolve(todo[0], state="running")], {}, 1, share=lambda trial: 1.0)
    assert half == pytest.approx(7)  # its steps were taken before
    bare = attrs.evolve(many, trials=tuple(todo))
    tried = {"baseline": {"seconds": 30.0, "evaluation": 2.0}}
    assert (progress.each(bare, base, tried), progress.each(bare, base, tried, trained=True)) == (30, 2)


def test_before_there_are_figures_the_usual_noise_says_what_will_be_found(ablate):
    told = ablate(*L2, "--seeds", "3", "--dry-run")
    assert "If seeds scatter by 0.35 on the logarithm, as Fréchet distances often do, with 3 seeds, 8 of 10" in told.err
    assert "; with one more, " in told.err
    ablate(*L2, "--seeds", "3")
    sd, words = usual.noise(only())
    assert only().folder.name in words and sd != usual.USUAL
    told = ablate("train.steps=8", *L2, "--seeds", "3", "--dry-run")
    assert f"If seeds scatter as in study {only().folder.name} ({sd:.2g} on the logarithm), with 3" in told.err


# ---- what is shown, and what is kept ---------------------------------------------------------------


def test_the_verdict_is_last_and_trials_are_counted_in_one_line(ablate):
    told = ablate(*L2, "--seeds", "3").out.splitlines()
    rows = comparison.compare(only())
    assert told[-3:] == comparison.sentences(only(), rows)[-3:]
    counts = [line for line in told if line.startswith("2 arms, seeds 0, 1, 2: 6 trials: done; they took 0:")]
    assert len(counts) == 1 and not any(trial.id in "".join(told) for trial in only().trials)


def test_only_failed_says_why_nothing_runs(ablate):
    told = ablate(*L2, "--only", "failed", code=75)
    assert "no trial has failed, so that nothing runs; 2 are to do: give the command without --only" in told.err
    assert not store.runs()
    ablate(*L2)
    assert "no trial has failed" not in ablate(*L2, "--only", "failed").err  # all is done


def test_an_arm_that_lacks_memory_has_failed_and_the_others_run(ablate):
    Path("trouble").write_text("memory")
    told = ablate("--swap", "loss={use='fragile', at=0}", *L2, "--seeds", "2", code=5)
    assert "loss={use='fragile', at=0}: two steps of it lack memory; the others run all the same" in told.err
    states = {arm.label: {trial.state for trial in only().of(arm)} for arm in only().arms}
    assert states == {"baseline": {"done"}, "loss={use='fragile', at=0}": {"out-of-memory"}, "loss=l2": {"done"}}
    assert told.out.count("out-of-memory: ") == 2 and "4 done, 2 out-of-memory" in told.out
    Path("trouble").unlink()
    ablate("--swap", "loss={use='fragile', at=0}")
    assert {trial.state for trial in only().trials} == {"done"}


def test_trials_keep_what_their_study_needs(ablate):
    ablate(*L2)
    trial = only().trials[0]
    (last,) = checkpoint.present(trial.folder / "checkpoints")
    tensors, _ = checkpoint.load(last)
    assert {name.partition("/")[0] for name in tensors} == {"program", "ema"}
    assert len([path for path in trial.folder.rglob("*") if path.is_file()]) <= 11
    assert not list((only().folder / "trials").iterdir())
    ablate(*L2, "evaluate.samples=150")
    assert {trial.state for trial in only().trials} == {"done"} and set(begun().values()) == {1}
    ablate("--swap", "loss=l1", "train.keep_final=all", "--name", "whole")
    trial = study.load(study.find("whole")).trials[1]
    assert len(checkpoint.present(trial.folder / "checkpoints")) == 2
    tensors, _ = checkpoint.load(checkpoint.latest(trial.folder / "checkpoints")[0])
    assert any(name.startswith("optimizer/") for name in tensors)


def test_without_a_plugin_that_measures_steps_the_last_of_two_is_what_one_takes(monkeypatch):
    planned, ticks = (
        runs_planning.plan(load_recipe("ict_ring", ["train.steps=5"]), device="cpu"),
        iter([0.0, 9.0, 11.0]),
    )
    monkeypatch.setenv("GENKIT_WITHOUT", "bench")
    discovery.installed.cache_clear()
    try:
        assert discovery.installed().manager.hook.genkit_step_seconds(planned=planned) is None
    finally:
        monkeypatch.delenv("GENKIT_WITHOUT")
        discovery.installed.cache_clear()
    monkeypatch.setattr(estimate.time, "monotonic", lambda: next(ticks))
    assert estimate._step_seconds(planned) == 2.0
