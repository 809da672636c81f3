"""When a run saves: behind the training, before anything else at its end, and never into what cannot be written."""

import shutil
import subprocess
import sys
import threading
from concurrent import futures
from pathlib import Path

import pytest
import torch

import genkit
from genkit.data import records
from genkit.errors import CheckpointError
from genkit.runs import callbacks, evaluating, loop, planning, store
from genkit.runs.callbacks import Hooks
from genkit.runs.evaluating import Saver
from genkit.training import checkpoint
from genkit.training.step import train

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run-format-1"
SMALL = ["network.model_channels=4", "network.num_blocks=1", "train.batch_size=8", "metrics.fd=false"]
SMALL += ["metrics.pr=false", "train.log_every_steps=2", "train.save_every_steps=4", "train.steps=10"]


@pytest.fixture
def planned():
    return planning.plan(genkit.load_recipe("ict_digits", SMALL), Path("out"), "cpu")


def bits(k=10):
    return checkpoint.load(Path("out", "checkpoints", f"step-{k:07d}"))


class Fails(Exception):
    pass


def failing(*args, **kwargs):
    raise Fails


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (callbacks.Trackers, "scalars"),
        (Hooks, "__call__"),
        (loop, "_log"),
        (evaluating, "show"),
        (evaluating, "recorded"),
    ],
    ids=["tracker", "hook", "figures", "pictures", "evaluation"],
)
def test_after_the_last_step_a_checkpoint_stands_whatever_fails_then(monkeypatch, place, name):
    """Whatever is called after the last step is made to fail: the weights of that step are there all the same."""
    right, stands = getattr(place, name), {}

    def late(*args, **kwargs):
        if any(e.get("k") == 8 for e in store.events(Path("out"))) and "step_end" not in str(args[1:2]):
            stands["then"] = [p.name for p in checkpoint.present(Path("out/checkpoints"))]
            if reached["k"] == 10:
                raise Fails
        return right(*args, **kwargs)

    reached = {"k": 0}
    step = loop.train

    def steps(state, *args):
        for figures in step(state, *args):
            reached["k"] = state.k
            yield figures

    monkeypatch.setattr(loop, "train", steps)
    monkeypatch.setattr(place, name, late)
    with pytest.raises(Fails):
        genkit.run(genkit.load_recipe("ict_digits", SMALL), "out", device="cpu")
    assert bits()[1]["k"] == 10


def test_the_hook_of_the_last_step_finds_its_checkpoint(monkeypatch):
    found, call = {}, Hooks.__call__

    def noted(self, name, **what):
        if name == "genkit_step_end":
            found[what["state"].k] = [checkpoint.step_of(p) for p in checkpoint.present(Path("out/checkpoints"))]
        return call(self, name, **what)

    monkeypatch.setattr(Hooks, "__call__", noted)
    genkit.run(genkit.load_recipe("ict_digits", SMALL), "out", device="cpu")
    assert list(found) == list(range(1, 11)) and 10 in found[10] and 10 not in found[9]


def test_training_goes_on_while_a_checkpoint_is_written_and_its_bits_are_those_of_its_step(planned, monkeypatch):
    gate, write, told = threading.Event(), checkpoint.save_file, []
    monkeypatch.setattr(checkpoint, "save_file", lambda *given: gate.wait(30) and write(*given))
    state = planned.state()
    steps = train(state, planned.data, planned.recipe.train)
    with Saver(planned, Hooks(lambda **what: told.append((what["k"], state.k)))) as saver:
        for _ in range(4):
            next(steps)
        then = {name: t.clone() for name, t in state.tensors().items()}
        saver.save(state)
        next(steps)
        saver.wait(ready=True)
        assert told == [] and not checkpoint.present(Path("out/checkpoints"))  # an event only of what stands
        gate.set()
    assert told == [(4, 5)]
    tensors, numbers = bits(4)
    assert numbers["k"] == 4 and all(torch.equal(tensors[name], t) for name, t in then.items())


def test_the_next_save_waits_for_the_one_before_and_a_failure_is_told(planned, monkeypatch):
    state, busy, most = planned.state(), [], []
    write = checkpoint.save_file

    def watched(*given):
        busy.append(1)
        most.append(len(busy))
        write(*given)
        busy.pop()

    monkeypatch.setattr(checkpoint, "save_file", watched)
    with Saver(planned, Hooks(lambda **what: None)) as saver:
        for _ in train(state, planned.data, planned.recipe.train):
            saver.save(state)
    assert most == [1] * 10 and len(checkpoint.present(Path("out/checkpoints"))) == 2

    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    state.k = 11
    with pytest.raises(CheckpointError, match="No space left"), Saver(planned, Hooks(lambda **what: None)) as saver:
        saver.save(state)
    assert [checkpoint.step_of(p) for p in checkpoint.present(Path("out/checkpoints"))] == [9, 10]


def test_a_failed_write_ends_the_run_at_the_next_step(monkeypatch):
    """The step after a save waits until the write has failed: the next one is not taken, though nothing else is due."""

    gate = threading.Event()

    def full(*given):
        gate.wait(60)
        raise OSError(28, "No space left on device")

    step, save, savers = loop.train, Saver.save, []

    def saved(saver, *given, **more):
        savers.append(saver)
        save(saver, *given, **more)

    def steps(state, *args):
        for figures in step(state, *args):
            if state.k == 5:
                gate.set()
                futures.wait(savers[0]._begun)
            assert state.k < 6
            yield figures

    monkeypatch.setattr(checkpoint, "save_file", full)
    monkeypatch.setattr(Saver, "save", saved)
    monkeypatch.setattr(loop, "train", steps)
    with pytest.raises(CheckpointError, match="No space left"):
        genkit.run(genkit.load_recipe("ict_digits", SMALL), "out", device="cpu")
    assert [(e["outcome"], e["k"]) for e in store.events(Path("out")) if e["event"] == "end"] == [("failed", 5)]
    assert not checkpoint.present(Path("out/checkpoints"))


def test_what_a_kill_left_of_the_last_evaluation_is_told_all_the_same(monkeypatch):
    """Killed as the file of the figures stands: the run that goes on finds them, and need not tell of them again."""
    write = records.write

    def killed(path, what):
        write(path, what)
        if path.parent.name == "evaluations":
            raise KeyboardInterrupt

    few = ["train.steps=10", "train.batch_size=8", "network.width=16", "evaluate.samples=100"]
    recipe = genkit.load_recipe("ict_ring", few)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(records, "write", killed)
        genkit.run(recipe, "out", device="cpu")
    result = genkit.run(recipe, "out", device="cpu")
    told = [e["figures"] for e in store.events(Path("out")) if e["event"] == "evaluated" and e["k"] == 10]
    assert told == [result.figures]


def test_a_run_that_ends_between_saves_waits_for_what_it_began(planned, monkeypatch):
    gate, write = threading.Event(), checkpoint.save_file
    monkeypatch.setattr(checkpoint, "save_file", lambda *given: gate.wait(0.3) or write(*given))
    step = loop.train

    def steps(state, *args):
        for figures in step(state, *args):
            yield figures
            if state.k == 5:
                raise Fails

    monkeypatch.setattr(loop, "train", steps)
    with pytest.raises(Fails):
        genkit.run(genkit.load_recipe("ict_digits", SMALL), "out", device="cpu")
    assert bits(4)[1]["k"] == 4 and [e["k"] for e in store.events(Path("out")) if e["event"] == "checkpoint"] == [4]


def readonly(tmp_path, *argv):
    """`genkit …` where the run folder `old` is mounted read-only, in a name space of its own."""
    folder = Path(shutil.copytree(FIXTURE, tmp_path / "old"))
    script = 'mount --bind old old && mount -o remount,bind,ro old && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "-"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], check=False, cwd=tmp_path).returncode:
        pytest.skip("no name spaces to mount in")
    before = sorted(p.name for p in folder.rglob("*"))
    done = subprocess.run(
        [*command, sys.executable, "-m", "genkit", *argv], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert "Traceback" not in done.stderr and sorted(p.name for p in folder.rglob("*")) == before
    return done


def test_a_finished_run_on_a_read_only_disk_is_sampled_elsewhere(tmp_path):
    done = readonly(tmp_path, "sample", "old", "--count", "4", "--out", "four.png")
    assert done.returncode == 0 and (tmp_path / "four.png").stat().st_size > 100, done.stderr


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["sample", "old"], "choose another place"),
        (["report", "old"], "choose another place"),
        (["evaluate", "old", "--samples", "20"], "copy the folder"),
    ],
)
def test_what_has_to_write_there_says_what_it_needs(tmp_path, words, hint):
    done = readonly(tmp_path, *words)
    assert done.returncode == 4 and "Read-only file system" in done.stderr and hint in done.stderr, done.stderr
    assert len([line for line in done.stderr.splitlines() if line]) == 1


def test_a_run_is_reported_elsewhere(tmp_path):
    done = readonly(tmp_path, "report", "old", "--out", "here.html")
    assert done.returncode == 0 and (tmp_path / "here.html").read_text().count("<img ") == 2
