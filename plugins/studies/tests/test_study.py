"""Studies: what is compared, how it is kept, and how it is run."""

import fcntl
import json
import os
import signal
import sys
from pathlib import Path

import attrs
import pytest

import genkit
from genkit.data import records
from genkit.errors import DataError
from genkit.kernel.loading import load_recipe
from genkit.runs import store
from genkit.testing import present, provide
from genkit.training import checkpoint
from genkit_studies import ablation, planning, pool, running, study
from genkit_studies.jobs import Queue
from genkit_studies.ledger import Job
from genkit_studies.study import Arm, Study, Trial

PROBES = Path(__file__).parents[3] / "tests" / "probes"


@pytest.fixture
def small():
    """A study of two arms and two seeds, one trial of which is done."""
    arms = (
        Arm(label="baseline", recipe=load_recipe("ict_ring")),
        Arm(label="l2", changes=("loss: pseudo-huber -> l2",), recipe=load_recipe("ict_ring", swaps=["loss=l2"])),
    )
    trials = tuple(
        Trial(arm=arm.label, seed=seed, folder=Path("runs", f"ict_ring-{i}{seed}"), id=f"{i}{seed}")
        for i, arm in enumerate(arms)
        for seed in (0, 1)
    )
    done = attrs.evolve(trials[0], state="done", figures={"fd.fd@1": 0.5}, seconds=2.5)
    return Study(
        name="small", id="0123456789", folder=Path("runs/studies/small-0123456789"), design="one-at-a-time",
        metric="fd.fd@1", arms=arms, seeds=(0, 1), trials=(done, *trials[1:]),
    )  # fmt: skip


def test_a_study_is_read_as_it_was_written(small):
    study.save(small)
    assert study.load(small.folder) == small
    for name in ("small", "latest", "0123", small.folder):
        assert study.find(name) == small.folder
    assert [trial.seed for trial in small.of(small.arms[1])] == [0, 1]


@pytest.mark.parametrize("text", ["[]", "{", '{"format": 1}', '{"arms": [{"label": 3}]}'])
def test_a_damaged_study_is_a_line(small, text):
    study.save(small)
    Path(small.folder, "study.json").write_text(text)
    with pytest.raises(Exception) as told:
        study.load(small.folder)
    assert "study.json" in str(told.value) and "\n" not in str(told.value)


def test_a_study_that_is_not_there_is_a_line_with_those_that_are(small):
    study.save(small)
    with pytest.raises(DataError, match="small-0123456789"):
        study.find("smal")
    whole = json.loads(Path(small.folder, "study.json").read_text())
    assert whole["trials"][0]["folder"] == "ict_ring-00"  # from the runs root: the whole can be moved


# ---- running -------------------------------------------------------------------------------------

RING = [
    "ict_ring", "train.steps=24", "train.save_every_steps=8", "train.log_every_steps=8", "train.batch_size=16",
    "evaluate.samples=100", "--device", "cpu",
]  # fmt: skip


def begun():
    """How often each run was begun or gone on with."""
    counts = {}
    for run in store.runs():
        counts[run.folder.name] = sum(e["event"] in ("start", "resume") for e in store.events(run.folder))
    return counts


def states():
    known = study.load(study.find("latest"))
    return {arm.label: [trial.state for trial in known.of(arm)] for arm in known.arms}


def test_only_what_is_missing_runs_and_baselines_are_shared(ablate):
    ablate("--swap", "loss=l2", "--seeds", "2")
    first = begun()
    assert len(first) == 4 and set(first.values()) == {1}
    ablate("--swap", "loss=l2", "--seeds", "2")
    assert begun() == first
    told = ablate("--swap", "loss=l2,l1", "--seeds", "2")
    assert len(begun()) == 6 and set(begun().values()) == {1}
    assert "6 trials, 2 to run" in told.err and len(study.studies()) == 1
    assert all(trial.figures["fd.fd@1"] > 0 for trial in study.load(study.find("latest")).trials)
    arms = [json.loads((run.folder / "lock.json").read_text())["trial"] for run in store.runs() if run.trial]
    assert sorted(arms) == sorted([["ict_ring", arm] for arm in ("baseline", "loss=l2", "loss=l1")] * 2)


def test_evaluation_seeds_tell_its_noise_from_that_of_training(ablate):
    told = ablate("evaluate.seeds=2", "--swap", "loss=l2", "--seeds", "2")
    assert "of training" in told.out and "of evaluation" in told.out
    trial = study.load(study.find("latest")).trials[0]
    assert len(set(trial.by_seed["fd.fd@1"])) == 2
    assert sum(trial.by_seed["fd.fd@1"]) / 2 == pytest.approx(trial.figures["fd.fd@1"])


def test_a_dry_run_tells_the_plan_and_runs_nothing(ablate):
    told = ablate("--swap", "loss=l2", "--seeds", "3,5", "--dry-run")
    assert "loss: pseudo-huber -> l2" in told.out and "4 trials, 4 to run" in told.err and "device hours" in told.err
    assert not Path("runs").exists()


@pytest.mark.parametrize(("trouble", "state"), [("crash", "crashed"), ("memory", "out-of-memory"), ("kill", "crashed")])
def test_an_arm_that_fails_stops_no_other_and_is_tried_again_alone(ablate, trouble, state):
    Path("trouble").write_text(trouble)
    told = ablate("--swap", "loss=fragile", "--swap", "loss=l2", code=5)
    assert states() == {"baseline": ["done"], "loss=fragile": [state], "loss=l2": ["done"]}
    known = {trial.arm: trial for trial in study.load(study.find("latest")).trials}
    reasons = {"crash": "RuntimeError: the loss has broken", "memory": "can't allocate memory", "kill": "signal 9"}
    assert reasons[trouble] in known["loss=fragile"].reason and reasons[trouble] in told.out
    assert store.summary(known["loss=fragile"].folder).state == state
    before = begun()
    Path("trouble").unlink()
    ablate("--swap", "loss=fragile", "--swap", "loss=l2", "--only", "failed")
    assert set(map(tuple, states().values())) == {("done",)}
    assert sum(begun().values()) == sum(before.values()) + 1
    assert not known["loss=fragile"].figures
    again = [e["event"] for e in store.events(known["loss=fragile"].folder)]
    assert "resume" in again or trouble == "kill"  # whose checkpoint may not have been on the disk yet


def progress_of(study):
    queue = Queue(component=genkit.component("launcher", "local"), setup=genkit.Setup())
    return running.Progress(study, queue, lambda now: None, [])


@pytest.mark.parametrize(("then", "told"), [("preempted", "crashed"), ("done", "done"), ("crashed", "crashed")])
def test_a_trial_that_dies_before_it_goes_on_has_crashed(small, then, told):
    trial = small.trials[1]
    trial.folder.mkdir(parents=True)
    (trial.folder / "lock.json").write_text('{"id": "another"}')
    store.event(trial.folder, event="end", outcome=then, text="an old reason")
    now = progress_of(small)._outcome(1, -9)
    assert (now.state, now.reason[:18]) == ("crashed", "killed by signal 9")
    assert store.summary(trial.folder).state == told  # one that only lacked figures stays done
    crashed = attrs.evolve(small, trials=(small.trials[0], now, *small.trials[2:]))
    study.save(crashed)
    again = planning.refreshed(small, records.read(crashed.folder / "study.json"))
    assert running.missing(again, "failed") == [1] and again.trials[1].reason == now.reason


def test_a_trial_that_is_ended_before_it_can_listen_was_preempted(small):
    assert progress_of(small)._outcome(1, -signal.SIGTERM).state == "preempted"


def test_a_slot_that_has_died_is_replaced_and_its_job_has_crashed(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", "true")  # ends at once
    slots = pool.LocalPool([{"CARD": "0"}, {"CARD": "1"}])
    slots.start()
    (second,) = slots.free[1:]
    second.process.poll = lambda: None  # it lives
    first = slots.free[0].process
    first.wait()
    slots.start()
    slots.free.reverse()
    assert [slot.place for slot in slots.free] == [0, 1] and slots.free[1] is second
    job = Job(argv=("run",), log=tmp_path / "log")
    (handle,) = slots.submit("job", [job])
    slot = slots.taken[handle]
    assert slot.process is not first
    while (code := slots.poll([handle])[handle]) == "runs":
        slot.process.wait()
    assert code == pool.CRASHED and not slots.taken
    slots.start()
    slot = next(slot for slot in slots.free if slot is not second)
    slot.process.wait()
    slot.send(job)
    assert slot.code == pool.CRASHED
    slots.close()


def test_interim_evaluations_count_in_the_estimate():
    recipe = load_recipe("ict_ring", ["train.steps=40", "evaluate.every_steps=10"])
    assert [recipe.evaluations_after(k) for k in (0, 9, 10, 30, 40)] == [4, 4, 3, 1, 1]
    assert attrs.evolve(recipe, metrics={}).evaluations_after(0) == 0


def test_fail_fast_begins_no_other_trial(ablate):
    Path("trouble").write_text("crash")
    ablate("--swap", "loss=fragile", "--swap", "loss=l2", "--fail-fast", code=5)
    assert states() == {"baseline": ["done"], "loss=fragile": ["crashed"], "loss=l2": ["todo"]}


def test_a_diverging_arm_is_a_result_and_is_not_run_again(ablate):
    big = 'optimizer={use="adam", lr=1e30}'
    told = ablate("--swap", big)
    assert states() == {"baseline": ["done"], big: ["diverged"]} and "not finite" in told.out
    before = begun()
    ablate("--swap", big)
    assert begun() == before


def test_arms_that_cannot_take_two_steps_are_told_all_at_once_before_anything_runs(ablate):
    Path("trouble").write_text("crash")
    told = ablate("--swap", "loss={use='fragile', at=0},{use='fragile', at=1},l2", code=2)
    assert told.err.count("two steps of it fail") == told.err.count("RuntimeError: the loss has broken") == 2
    assert "loss 'fragile' of genkit-probe-fragile" in told.err
    assert not Path("runs").exists()


def test_a_signal_lets_the_trial_save_and_the_same_command_goes_on(ablate):
    Path("trouble").write_text(f"stop {os.getpid()}")
    told = ablate("--swap", "loss=fragile", code=75)
    assert "SIGTERM; 1 of 2 trials are done" in told.err and "the same command goes on" in told.err
    assert states() == {"baseline": ["done"], "loss=fragile": ["preempted"]}
    Path("trouble").unlink()
    ablate("--swap", "loss=fragile")
    assert states() == {"baseline": ["done"], "loss=fragile": ["done"]} and set(begun().values()) == {1, 2}


def test_a_run_that_another_study_holds_is_waited_for(forked_slots):
    asked = ablation.ask(RING[0], ["loss=l2"], RING[1:-2])
    baseline = planning.plan(asked, "cpu").trials[0]
    seen = []
    baseline.folder.mkdir(parents=True)
    with (baseline.folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def watch(now):
            seen.append([trial.state for trial in now.trials])
            if len(seen) == 2:
                assert now.trials[0].reason.startswith("held by")
                fcntl.flock(lock, fcntl.LOCK_UN)

        done = ablation.ablate(RING[0], ["loss=l2"], RING[1:-2], device="cpu", watch=watch)
    assert seen[:2] == [["running", "running"], ["running", "done"]]
    assert [trial.state for trial in done.trials] == ["done", "done"]


def test_two_slots_come_to_the_same_as_one(forked_slots, monkeypatch):
    done, seen = {}, []
    for jobs in (1, 2):
        monkeypatch.setenv("GENKIT_RUNS", f"jobs{jobs}")
        done[jobs] = ablation.ablate(
            RING[0], ["loss=l2"], RING[1:-2], seeds=(0, 1), device="cpu", jobs=jobs,
            watch=lambda now, jobs=jobs: seen.append((jobs, [t.state for t in now.trials].count("running"))),
        )  # fmt: skip
    assert max(n for jobs, n in seen if jobs == 1) == 1 and max(n for jobs, n in seen if jobs == 2) == 2
    one, two = ([(t.id, t.state, t.figures) for t in done[jobs].trials] for jobs in (1, 2))
    assert one == two and {t.state for t in done[2].trials} == {"done"}
    for one, two in zip(done[1].trials, done[2].trials, strict=True):
        assert _weights(one.folder) == _weights(two.folder)


def _weights(folder):
    newest, _ = checkpoint.latest(folder / "checkpoints")
    return {file.name: file.read_bytes() for file in newest.glob("*.safetensors")}


def test_a_launcher_of_a_plugin_runs_trials_by_their_words_alone(ablate, tmp_path, monkeypatch):
    site = provide(tmp_path / "processes", "processes", "probe_processes")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (PROBES, site, tmp_path / "site"))))
    with present(site):
        ablate("--swap", "loss=l2", "--launcher", "processes")
        assert states() == {"baseline": ["done"], "loss=l2": ["done"]}
        Path("trouble").write_text("crash")
        told = ablate("--swap", "loss={use='fragile', at=0}", "--launcher", "processes", code=2)
    assert "two steps of it fail" in told.err and "RuntimeError: the loss has broken" in told.err


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (["--swap", "loss=l2", "--seeds", "0"], 2, "--seeds"),
        (["--swap", "loss=l2", "--seeds", "1,1"], 2, "stands twice"),
        (["--swap", "loss=l2", "--metric", "fid@1"], 2, "fd.….@1"),
        (["--swap", "loss=l2", "--only", "todo"], 2, "only failed is known"),
        (["--swap", "loss=l2", "--jobs", "0"], 2, "--jobs"),
        (["--swap", "loss=l2", "--per-device", "2"], 4, "--jobs"),
        (["--swap", "loss=l2", "--launcher", "slrum"], 2, "slrum"),
        (["--from", "ict_digits", "--swap", "loss=l2"], 2, "--swap beside"),
        (["--from", "ict_digits", "--to", "ct_digits"], 2, "ict_ring beside --from and --to"),
    ],
    ids=str,
)
def test_wrong_words_are_a_line_and_leave_nothing(ablate, argv, code, told):
    assert told in ablate(*argv, code=code).err
    assert not Path("runs").exists()


def test_a_study_leaves_the_recipe_of_a_run_that_it_shares():
    few = ["train.steps=2", "evaluate.samples=300", "train.batch_size=16"]
    own = genkit.run(genkit.load_recipe("ict_ring", few))
    written = (own.folder / "recipe.toml").read_text()
    recipe = genkit.load_recipe("ict_ring", [*few, "evaluate.samples=200", "name=ict_ring"])
    shared = genkit.run(recipe, trial=("others", "baseline"))
    assert shared.folder == own.folder and (own.folder / "recipe.toml").read_text() == written
    genkit.run(recipe)
    assert "samples = 200" in (own.folder / "recipe.toml").read_text()
    assert genkit.run(attrs.evolve(recipe, name="mine"), out=own.folder).folder == own.folder
    assert store.summary(own.folder).name == "mine"
