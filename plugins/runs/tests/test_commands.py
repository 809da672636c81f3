"""The store of runs through the command line: listed, shown, compared, removed, cleaned."""

import json
import shutil
from pathlib import Path

import pytest

import genkit
from genkit import cli
from genkit.kernel.loading import load_recipe
from genkit.runs import store
from genkit_components import recipes

FEW = ["train.steps=6", "train.save_every_steps=2", "train.keep_checkpoints=3", "train.log_every_steps=2"]
FEW += ["evaluate.samples=300", "train.batch_size=16"]


@pytest.fixture
def call(capsys):
    def words(*argv, code=0):
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main([str(word) for word in argv])
        told = capsys.readouterr()
        assert left.value.code == code, told.err
        return told

    return words


@pytest.fixture
def two():
    return [genkit.run(load_recipe("ict_ring", [*FEW, f"train.seed={seed}"])).folder for seed in (0, 1)]


def test_runs_of_one_name_are_told_apart_and_damaged_ones_passed_over(call, two):
    differs = {Path(s["folder"]): s["differs"] for s in json.loads(call("runs", "list", "--json").out)}
    assert differs == {two[0]: "train.seed=0", two[1]: "train.seed=1"}
    genkit.run(load_recipe("ict_ring", FEW), fresh=True)
    assert ".old" not in call("runs", "list").out and ".old" in call("runs", "list", "--all").out
    for name, text in (("list", "[]"), ("half", '{"na'), ("odd", '{"name": 3, "steps": "x", "created": null}')):
        Path("runs", name).mkdir()
        Path("runs", name, "lock.json").write_text(text)
        (Path("runs", name) / "checkpoints" / "step-foo").mkdir(parents=True)
    told = call("runs", "list")
    assert told.err.count("is passed over") >= 2 and two[1].name in told.out
    call("sample", two[1], "--count", "2", "--out", "a.png")


@pytest.fixture
def mixed(two):
    """Two runs of one's own, and a study of four trials, one of which has diverged."""
    trials = []
    for seed in range(4):
        made = genkit.run(
            load_recipe("ict_ring", [*FEW, "train.steps=2", f"train.seed={seed}"]), trial=("few", "baseline")
        ).folder
        trials.append({"folder": made.name, "state": "diverged" if seed == 3 else "done"})
    store.event(made, event="end", outcome="diverged")
    study = Path("runs/studies/mine-0123456789")
    study.mkdir(parents=True)
    told = {"arms": [{}, {}], "seeds": [0, 1], "trials": trials}
    (study / "study.json").write_text(json.dumps(told))
    return two


def test_a_study_is_one_line_and_its_trials_are_listed_when_asked_for(call, mixed):
    def listed(*argv):
        return [line.split("  ")[0] for line in call("runs", "list", *argv).out.splitlines()[1:]]

    assert listed() == ["study mine-0123456789", mixed[1].name, mixed[0].name]
    assert "3 done, 1 diverged" in call("runs", "list").out and "2 arms, 2 seeds" in call("runs", "list").out
    for name in ("mine", "mine-0123456789", "0123"):
        assert len(listed("--study", name)) == 4
    assert len(listed("--study", "mine", "--state", "diverged")) == 1
    assert listed("--state", "diverged") == ["study mine-0123456789"]
    assert listed("--limit", "1") == ["study mine-0123456789"]
    assert "2 more; --limit 1 leaves them out" in call("runs", "list", "--limit", "1").err
    assert listed("--recipe", "ict_digits") == [] and len(listed("--recipe", "ict_ring")) == 3
    assert "no runs like that in runs" in call("runs", "list", "--recipe", "ict_digits").err
    assert "there is none; mine-0123456789" in call("runs", "list", "--study", "other", code=4).err
    told = json.loads(call("runs", "list", "--json").out)
    assert [len(run["studies"]) for run in told] == [1] * 4 + [0] * 2


def test_a_run_is_shown_with_what_its_recipe_changes(call, two):
    shown = json.loads(call("runs", "show", two[1], "--json").out)
    assert shown["differs"]["train.seed"] == [0, 1] and shown["differs"]["train.steps"][1] == 6
    assert shown["checkpoints"] == [f"step-{k:07d}" for k in (2, 4, 6)] and shown["bytes"] > 10_000
    assert "train.seed 0 -> 1" in call("runs", "show", two[1]).out
    assert "there is none" in call("runs", "show", "nowhere", code=4).err


def test_runs_are_compared_side_by_side(call, two):
    found = json.loads(call("runs", "compare", *two, "--json").out)
    assert found["recipe"] == {"train.seed": [0, 1]} and "fd.fd@1" in found["figures"]
    third = genkit.run(load_recipe("ict_ring", [*FEW, "loss.c=0.3"])).folder
    rows = [line.split() for line in call("runs", "compare", *two, third).out.splitlines()]
    assert rows[0] == [folder.name for folder in (*two, third)] and ["train.seed", "0", "1", "0"] in rows
    assert ["loss.c", "-", "-", "0.3"] in rows
    assert "name two or more" in call("runs", "compare", two[0], code=2).err


def test_what_is_running_or_in_a_study_is_not_removed(call, two):
    assert "--yes" in call("runs", "remove", two[0], code=2).err
    with store.held(two[0]):
        assert "is in use" in call("runs", "remove", two[0], "--yes", code=4).err
    study = Path("runs/studies/mine-123")
    study.mkdir(parents=True)
    (study / "study.json").write_text(json.dumps({"trials": [{"folder": two[0].name}]}))
    assert "trial of study mine-123" in call("runs", "remove", two[1], two[0], "--yes", code=4).err
    assert all(folder.is_dir() for folder in two)  # nothing, rather than half of what was asked
    call("runs", "remove", two[0], "--yes", "--force")
    assert [folder.is_dir() for folder in two] == [False, True]


def test_cleaning_keeps_the_last_checkpoint_the_best_and_all_of_an_unfinished_run(call, two):
    (two[0] / "checkpoints" / "best.json").write_text(json.dumps({"k": 4}))
    (two[1] / "checkpoints" / ".tmp-0000001-7").mkdir()
    shutil.rmtree(two[1] / "checkpoints" / "step-0000006")
    events = [e for e in store.events(two[1]) if e["event"] != "end"]
    (two[1] / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    would = call("runs", "gc", "--dry-run").out
    assert would.count("would remove") == 2 and (two[1] / "checkpoints" / ".tmp-0000001-7").exists()
    assert "freed in 2 places" in call("runs", "gc").out
    names = [sorted(p.name for p in (folder / "checkpoints").glob("step-*")) for folder in two]
    assert names == [["step-0000004", "step-0000006"], ["step-0000002", "step-0000004"]]


def test_a_longer_run_says_that_a_shorter_one_is_there_and_a_run_that_goes_on_does_not(call, two):
    longer = [*FEW, "train.steps=8", "train.log_every_steps=4"]  # which changes no weights
    told = call("run", "ict_ring", *longer, "--dry-run").err
    says = f"{two[0].name} is the same recipe after 6 steps; one of another length is another run, and begins at step 0"
    assert f"note: {says}: init.from={two[0].name} would begin with its weights" in told
    assert says in call("run", "ict_ring", *longer).err
    assert "is the same recipe" not in call("run", "ict_ring", *longer).err  # it is done
    for other in ("train.seed=2", "loss.c=0.3", "train.steps=4", f"init.from={two[0].name}"):
        assert "is the same recipe" not in call("run", "ict_ring", *longer, other, "--dry-run").err
    genkit.run(load_recipe("ict_ring", [*longer, "train.steps=9"]), trial=("few", "baseline"))
    assert not [e for e in store.events(store.find("latest")) if "is the same recipe after 8" in e.get("text", "")]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sample", "lates"], "there is none in runs; did you mean 'latest'?"),
        (["runs", "show", "smal"], "did you mean 'small'?"),
        (["run", "ict_ring", "--steps", "100"], "a setting is a word without dashes: train.steps=100"),
        (["run", "ict_ring", "--batch-size=8"], "a setting is a word without dashes: train.batch_size=8"),
        (["run", "ict_ring", "--steps", "--json"], "a setting is a word without dashes: train.steps=..."),
        (["run", "ict_ring", "--sizes", "8"], "see genkit run --help"),
        (["run", "ict_ring", "seed=7"], "seed: unknown key 'seed' of consistency; there are evaluate.seed, train.seed"),
        (["evaluate", ".", "--against", "ring", "--checkpoint", "best"], "--checkpoint: is for runs"),
        (
            ["evaluate", "small", "--metrics", "kid"],
            "--metrics: is for samples that are there; a run's metrics are",
        ),
    ],
)
def test_what_was_nearly_meant_is_named(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    genkit.run(load_recipe("ict_ring", ["name=small", "train.steps=2", "metrics.fd=false"]), device="cpu")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli.main(words)
    told = capsys.readouterr().err.strip()
    assert says in told and "\n" not in told


def test_recipes_are_listed_by_their_first_sentences(capsys):
    text = (
        "# A recipe of two things: this,\n# and that (Author et al. 2020, x). More of it.\n#\n# Else.\n\ngenkit = 1\n"
    )
    assert recipes.summary(text) == "A recipe of two things: this, and that (Author et al. 2020, x)."
    assert recipes.summary("#:schema genkit.schema.json\n# Small: Ours.\ngenkit = 1") == "Small: Ours."
    assert recipes.summary("genkit = 1\n# no head\n") == ""
    with pytest.raises(SystemExit):
        cli.main(["recipe", "list"])
    rows = [line.split("genkit-lab", 1)[1].strip() for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows and all(row.endswith(".") for row in rows)
