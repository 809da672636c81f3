"""Whole stories through the command line."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import genkit
from genkit.runs import evaluating, store
from genkit.testing import provide
from genkit.training import checkpoint

PROBES = Path(__file__).parents[1] / "probes"


@pytest.fixture
def cli(tmp_path):
    """`cli("run", …, KILL="8:3")`: genkit in a process of its own, with the killer plugin at hand."""
    site = provide(tmp_path / "site", "killer", "probe_killer")

    def call(*argv, code=0, **environment):
        env = {**os.environ, "PYTHONPATH": f"{PROBES}{os.pathsep}{site}", "OMP_NUM_THREADS": "1", **environment}
        done = subprocess.run(
            [sys.executable, "-m", "genkit", *map(str, argv)],
            capture_output=True,
            text=True,
            env=env,
            check=False,
            timeout=300,
        )
        assert done.returncode in (code if isinstance(code, tuple) else (code,)), (
            f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        assert "Traceback" not in done.stderr
        return done

    return call


def final(folder):
    path, _ = checkpoint.latest(Path(folder) / "checkpoints")
    return checkpoint.load(path)


def test_train_look_sample_evaluate_report(cli, tiny):
    done = json.loads(cli("run", "ict_digits", *tiny, "--json").stdout)
    folder = Path(done["folder"])
    assert {p.name for p in folder.iterdir()} >= {"recipe.toml", "lock.json", "events.jsonl", "checkpoints", "samples"}
    assert {"fd.fd@1", "fd.fd@2", "fd.fd_floor@1", "fd.fd_held_out@1", "pr.precision@2"} <= done["figures"].keys()
    assert (folder / "report.html").stat().st_size > 10_000 and len(done["samples"]) == 2
    assert store.summary(folder).state == "done"

    again = cli("run", "ict_digits", *tiny)  # the same command reports, and trains nothing
    assert "start" not in again.stderr and "resume" not in again.stderr and re.search(r"fd\s", again.stdout)
    assert [e["event"] for e in store.events(folder)].count("start") == 1

    cli("sample", "latest", "--count", "5", "--out", "a.h5")
    cli("sample", done["id"][:5], "--count", "5", "--weights", "raw", "--steps", "0.5,0.1", "--out", "some")
    cli("sample", "ict_digits", "--steps", "2")
    assert len(list(Path("some").iterdir())) == 5
    figures = json.loads(cli("evaluate", "latest", "--samples", "300", "--steps", "1", "--json").stdout)
    assert figures["steps"]["1"]["figures"]["fd.fd"] == done["figures"]["fd.fd@1"]
    assert "report.html" in cli("report").stdout
    assert folder.name in cli("runs", "list").stdout


def test_a_changed_evaluation_evaluates_and_does_not_train(cli, tiny):
    cli("run", "ict_digits", *tiny)
    other = cli("run", "ict_digits", *tiny, "evaluate.samples=64", "metrics.pr=false", "--json")
    done = json.loads(other.stdout)
    assert not any(name.startswith("pr.") for name in done["figures"])
    events = [e["event"] for e in store.events(Path(done["folder"]))]
    assert events.count("start") == 1 and "resume" not in events and events.count("evaluated") == 2


def test_killed_at_any_moment_the_same_command_ends_with_the_same_bits(cli, tiny, tmp_path):
    command = ["run", "ict_digits", *tiny, "metrics.pr=false", "train.save_every_steps=3"]
    cli(*command, "--out", "runs/undisturbed")
    chance = random.Random(0)
    while (reached := _reached()) < 24:
        kill = f"{reached + chance.randrange(1, 7)}:{chance.randrange(0, 16)}"
        cli(*command, "--out", "runs/killed", KILL=kill, code=(0, -signal.SIGKILL))
    cli(*command, "--out", "runs/killed")
    began = [e["k"] for e in store.events(Path("runs/killed")) if e["event"] in ("start", "resume")]
    assert len(began) >= 5 and sum(k > 0 for k in began) > len(began) / 2, began
    (one, numbers), (two, others) = final("runs/undisturbed"), final("runs/killed")
    assert numbers == others and all(torch.equal(one[name], two[name]) for name in one)
    for name in ("final-steps1.png", "final-steps2.png"):
        assert Path("runs/undisturbed/samples", name).read_bytes() == Path("runs/killed/samples", name).read_bytes()
    assert not list(Path("runs/killed/checkpoints").glob(".t*"))


def _reached():
    path, _ = checkpoint.latest(Path("runs/killed/checkpoints"))
    return checkpoint.step_of(path) if path else 0


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 75), ("SIGUSR1", 75), ("SIGINT", 130)])
def test_a_signal_finishes_the_step_saves_and_leaves(cli, tiny, name, code):
    command = ["run", "ict_digits", *tiny, "metrics.fd=false", "metrics.pr=false"]
    stopped = cli(*command, TERM_AT="11", TERM_WITH=name, code=code)
    assert f"{name} after step 11; saved" in stopped.stderr and stopped.stderr.count("genkit:") == 1
    folder = store.find("latest")
    assert store.summary(folder).state == "preempted" and final(folder)[1]["k"] == 11
    assert "resume at step 11" in cli(*command).stderr


def test_labels_are_learnt_and_sampled(cli, tiny):
    cli("run", "ict_digits", *tiny, "dataset.labels=true", "metrics.fd=false", "metrics.pr=false")
    cli("sample", "latest", "--label", "3", "--count", "4")
    assert "is no class" in cli("sample", "latest", "--label", "10", code=4).stderr
    assert json.loads(cli("data", "info", "digits", "labels=true", "--json").stdout)["classes"] == 10


def test_ones_own_folder_of_images(cli, tiny, tmp_path):
    from PIL import Image

    (tmp_path / "mine").mkdir()
    for i in range(60):
        Image.new("RGB", (8, 8), (i * 4, 255 - i * 4, 90)).save(tmp_path / "mine" / f"{i}.png")
    done = cli(
        "run",
        "ict_digits",
        "dataset.use=image-folder",
        "dataset.path=mine",
        *tiny,
        "evaluate.samples=64",
        "metrics.pr=false",
        "--json",
    )
    assert json.loads(done.stdout)["figures"]["fd.fd@1"] > 0
    few = "only 60 images to train on"
    assert done.stderr.count(few) == 1
    told = [e["text"] for e in store.events(Path(json.loads(done.stdout)["folder"])) if e["event"] == "notice"]
    assert [few in text for text in told].count(True) == 1
    assert few in cli("run", "ict_digits", "dataset.use=image-folder", "dataset.path=mine", "--dry-run").stderr
    (tmp_path / "mine" / "bad.png").write_bytes(b"\x89PNG torn")
    bad = cli("run", "ict_digits", "dataset.use=image-folder", "dataset.path=mine", *tiny, code=4)
    assert "bad.png" in bad.stderr and len(bad.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (["run", "nothing.toml"], 2, "no such recipe file"),
        (["run", "ict_digits", "trian.steps=3"], 2, "did you mean 'train'?"),
        (["run", "ict_digits", "loss.use=psuedo-huber"], 2, "did you mean 'pseudo-huber'"),
        (["run", "ict_digits", "train.steps=many"], 2, "expected int, got 'many'"),
        (["run", "ict_digits", "--device", "cuda:7"], 4, "cuda:7 is not here"),
        (["run", "ict_digits", "--device", "tpu"], 4, "'tpu' is no device"),
        (["run", "ict_digits", "dataset={use='hdf5', path='no.h5'}"], 4, "no.h5"),
        (["runn", "ict_digits"], 2, "did you mean 'run'"),
        (["run"], 2, "Missing argument"),
        (["sample", "latest"], 4, "there is none"),
        (["components", "show", "pseudo-hubr"], 2, "did you mean 'pseudo-huber'"),
        (["components", "list", "lossy"], 2, "no kind 'lossy'"),
        (["--plugins", "itc", "plugins", "list"], 3, "no plugin named 'itc'"),
        (["ablate", "ict_digits"], 2, "nothing to swap"),
        (["ablate", "ict_digits", "--swap", "los=l2", "--swap", "loss=l3"], 2, "did you mean 'loss'"),
        (["recipe", "copy", "ict_digits", "here.toml"], 2, "is there already"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_input_is_a_line_that_names_place_and_remedy(cli, argv, code, told, tmp_path):
    (tmp_path / "here.toml").write_text("")
    before = {p.name for p in tmp_path.iterdir()}
    done = cli(*argv, code=code)
    assert told in done.stderr
    assert {p.name for p in tmp_path.iterdir()} - before <= {"site"}


def test_a_damaged_data_file_is_a_line(cli, tmp_path):
    import genkit_images

    whole = (Path(genkit_images.__file__).parent / "digits.h5").read_bytes()
    (tmp_path / "short.h5").write_bytes(whole[: len(whole) // 2])
    done = cli("run", "ict_digits", "dataset={use='hdf5', path='short.h5'}", code=4)
    assert "short.h5" in done.stderr and len(done.stderr.strip().splitlines()) == 1 and not Path("runs").exists()


def test_a_diverging_run_says_at_which_step_and_keeps_its_last_good_checkpoint(cli, tiny):
    command = ["run", "ict_digits", *tiny, "optimizer={use='adam', lr=1e30}", "train.log_every_steps=1"]
    told = cli(*command, code=1).stderr
    assert re.search(r"step \d+: the loss is not finite", told)
    assert store.runs()[0].state == "diverged"


def test_weights_that_the_last_step_broke_are_no_result(cli, tiny):
    told = cli("run", "ict_digits", *tiny, "optimizer={use='adam', lr=1e300}", "train.steps=1", code=1).stderr
    assert "step 0: the loss is not finite, or a weight is not" in told
    assert not list(store.runs()[0].folder.glob("checkpoints/step-*"))


def test_a_folder_is_never_overwritten(cli, tiny):
    small = ["metrics.fd=false", "metrics.pr=false"]
    cli("run", "ict_digits", *tiny, *small, "--out", "mine")
    refused = cli("run", "ict_digits", *tiny, *small, "train.seed=1", "--out", "mine", code=4)
    assert "holds another run" in refused.stderr
    assert "train.seed (default there, 1 here); choose another --out" in refused.stderr
    cli("run", "ict_digits", *tiny, *small, "train.seed=1", "--out", "mine", "--fresh")
    assert Path("mine.old").is_dir() and final("mine.old")[1]["k"] == 24
    cli("run", "ict_digits", *tiny, *small, "train.seed=1", "--out", "mine", "--again")
    one, two = final("mine")[0], final("mine-2")[0]
    assert all(torch.equal(one[n], two[n]) for n in one)


def test_one_run_one_process(cli, tiny):
    folder = Path("busy")
    with store.held(folder):
        told = cli("run", "ict_digits", *tiny, "--out", folder, code=4).stderr
    assert f"pid {os.getpid()}" in told


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(cli, tiny):
    plan = json.loads(cli("run", "ict_digits", *tiny, "--dry-run", "--json").stdout)
    assert (
        plan["steps"].startswith("0 of 24 done")
        and plan["grid points"].startswith("11, 21")
        and not Path("runs").exists()
    )


def test_ablate_compares_each_swap_with_the_baseline_and_repeats_nothing(cli, tiny):
    small = [*tiny, "metrics.pr=false"]
    cli("run", "ict_digits", *small)
    table = cli("ablate", *small[:0], "--swap", "loss=l2", "--swap", "teacher=ema").stdout
    rows = [line.split()[0] for line in table.splitlines()[:4]]
    assert rows == ["arm", "baseline", "loss=l2", "teacher=ema"] and "(" in table
    began = sum(e["event"] == "start" for s in store.runs() for e in store.events(s.folder))
    assert began == 3 and sum(s.trial for s in store.runs()) == 2
    cli("ablate", "--swap", "loss=l2")
    assert sum(e["event"] == "start" for s in store.runs() for e in store.events(s.folder)) == 3


def test_a_crashing_arm_does_not_stop_the_others(cli, tiny):
    big = "optimizer={use='adam', lr=1e30}"
    done = cli("ablate", "ict_digits", *tiny, "metrics.pr=false", "--swap", big, "--swap", "loss=l1")
    assert re.search(r"lr=1e30\} \*\s+diverged", done.stdout) and re.search(r"loss=l1\s+done", done.stdout)


def test_recipes_are_listed_shown_and_copied(cli):
    assert "ict_ring" in cli("recipe", "list").stdout
    assert "ict_digits.toml" in cli("recipe", "show", "ict_digits", "--provenance").stdout
    cli("recipe", "copy", "ict_digits", "own.toml")
    assert cli("recipe", "check", "own.toml").stdout.strip() == "own.toml: fine"
    assert genkit.load_recipe("own.toml").tree() == genkit.load_recipe("ict_digits").tree()


def test_trackers_are_told_and_a_failing_one_is_dropped(cli, tiny, tmp_path):
    done = cli(
        "run", "ict_digits", *tiny, "metrics.fd=false", "metrics.pr=false", "trackers.tb.use=tensorboard", "--json"
    )
    folder = Path(json.loads(done.stdout)["folder"])
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))


def test_completion_is_offered_and_completes(cli):
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # no shell need stand above the test
    assert "_GENKIT_COMPLETE" in cli("--show-completion", "bash", **named).stdout
    asked = {"_GENKIT_COMPLETE": "complete_bash", "COMP_WORDS": "genkit r", "COMP_CWORD": "1"}
    assert set(cli(**asked).stdout.split()) == {"run", "runs", "recipe", "report"}


def test_a_folder_that_was_stopped_before_the_first_step_is_no_obstacle(cli, tiny):
    command = ["run", "ict_digits", *tiny, "metrics.fd=false", "metrics.pr=false", "--out", "early"]
    cli(*command)
    for path in Path("early").iterdir():
        if path.name not in ("recipe.toml", ".lock"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    Path("early", ".lock.json.77").write_text("")
    cli(*command)
    assert "make no sample" in cli("sample", "early", "--steps", "0", code=2).stderr
    assert ".jpg" in cli("sample", "early", "--out", "a.jpg", code=2).stderr


@pytest.mark.parametrize("how", [[], ["--fresh"]])
def test_a_folder_that_no_run_made_is_left_alone(cli, tiny, how):
    mine = Path("mine")
    mine.mkdir()
    (mine / "recipe.toml").write_text('extends = "ict_digits"\n')
    told = cli("run", "mine/recipe.toml", *tiny, "--out", "mine", *how, code=4).stderr
    assert "holds no run" in told
    assert [p.name for p in mine.iterdir()] == ["recipe.toml"] and "extends" in (mine / "recipe.toml").read_text()


def test_an_output_that_is_a_file_is_one_line(cli, tiny):
    Path("taken").write_text("")
    assert "taken" in cli("run", "ict_digits", *tiny, "--out", "taken", code=4).stderr


HOOKS = """
from genkit.hookspecs import hookimpl
GENKIT_API = 1

@hookimpl
def genkit_{name}({arguments}):
    raise {error}
"""


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("run_start", "folder", "KeyError('mine')"),
        ("step_end", "state, figures, key", "KeyError('mine')"),
        ("checkpoint_saved", "folder", "SystemExit(0)"),
        ("evaluated", "figures", "RuntimeError('mine')"),
    ],
)
def test_a_hook_that_raises_ends_the_run_in_one_line(cli, tiny, tmp_path, name, arguments, error):
    (tmp_path / "probe_raising.py").write_text(HOOKS.format(name=name, arguments=arguments, error=error))
    provide(tmp_path / "site", "raising", "probe_raising")
    path = os.pathsep.join(map(str, (tmp_path, tmp_path / "site")))
    failed = cli("run", "ict_ring", *RING, "--out", "r", PYTHONPATH=path, code=3).stderr
    (line,) = [line for line in failed.splitlines() if line.startswith("genkit: ")]
    assert line.startswith(f"genkit: genkit_{name} of genkit-probe-raising: {error.partition('(')[0]}")
    assert "Traceback" not in failed
    told = store.events(Path("r"))
    assert told[-1]["outcome"] == "failed"
    cli("run", "ict_ring", *RING, "--out", "r", "--without", "raising", PYTHONPATH=path)
    assert store.summary(Path("r")).state == "done"


@pytest.mark.parametrize("name", ["run_end", "report"])
def test_a_hook_after_the_run_that_raises_is_told(cli, tmp_path, name):
    (tmp_path / "probe_raising.py").write_text(HOOKS.format(name=name, arguments="folder", error="KeyError('late')"))
    provide(tmp_path / "site", "raising", "probe_raising")
    path = os.pathsep.join(map(str, (tmp_path, tmp_path / "site")))
    assert "late" in cli("run", "ict_ring", *RING, "--out", "r", PYTHONPATH=path).stderr
    assert any("late" in e.get("text", "") for e in store.events(Path("r")) if e["event"] == "notice")


def test_a_stop_between_a_checkpoint_and_its_evaluation_loses_no_figure(cli, tiny):
    command = ["run", "ict_ring", *RING, "evaluate.every_steps=20", "--out", "r"]
    cli(*command)
    folder = Path("r")
    whole = [e["figures"] for e in store.events(folder) if e["event"] == "evaluated" and e["k"] == 20]
    for path in [*(folder / "checkpoints").glob("step-0000040"), *(folder / "checkpoints").glob("step-0000060")]:
        shutil.rmtree(path)
    kept = [e for e in store.events(folder) if e["k"] <= 20 and e["event"] != "evaluated"]
    (folder / "events.jsonl").write_text("\n".join(map(json.dumps, kept)) + '\n{"event": "ste')  # torn by the kill
    cli(*command)
    again = store.events(folder)
    assert [e["figures"] for e in again if e["event"] == "evaluated" and e["k"] == 20] == whole
    assert [e["k"] for e in again if e["event"] == "resume"] == [20]


RING = ["train.steps=60", "train.save_every_steps=20", "evaluate.samples=600", "train.batch_size=32"]
RING += ["train.keep_checkpoints=3"]


def test_an_averaged_teacher_starts_from_the_weights_that_the_student_starts_from(cli, tiny):
    cli("run", "ict_ring", *RING, "name=first")
    done = json.loads(
        cli("run", "ict_ring", *RING, "name=second", "init.from=first", "teacher=ema", "train.steps=1", "--json").stdout
    )
    first, second = (
        final(f)[0] for f in (json.loads(cli("runs", "list", "--json").stdout)[1]["folder"], done["folder"])
    )
    for name in (n for n in first if n.startswith("ema/")):
        assert torch.dist(second[f"program/owned.network.{name[4:]}"], first[name]) < 0.2 * first[name].norm() + 1e-3


def test_two_processes_train_stop_resume_and_report_as_one(cli, tiny, tmp_path):
    def together(*argv, code=0, **more):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "genkit"]
        path = os.pathsep.join([str(PROBES), str(tmp_path / "site")])
        quiet = {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "PYTHONPATH": path}
        done = subprocess.run(
            [*command, *argv],
            capture_output=True,
            text=True,
            env={**os.environ, **quiet, **more},
            timeout=200,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done

    command = ["run", "ict_ring", *RING, "evaluate.every_steps=40", "--json"]
    stopped = together(
        *command, code=1, TERM_AT="25", TERM_WITH="SIGTERM"
    )  # noticed by both at the next step where they meet
    assert stopped.stderr.count("SIGTERM after step 40; saved") == 1 and "exitcode  : 75" in stopped.stderr
    first = json.loads(together(*command).stdout)  # one document: the other process is silent
    folder = Path(first["folder"])
    told = [(e["event"], e["k"]) for e in store.events(folder) if e["event"] in ("start", "resume", "evaluated")]
    assert told == [("start", 0), ("resume", 40), ("evaluated", 40), ("evaluated", 60)]
    assert json.loads((folder / "lock.json").read_text())["world_size"] == 2
    again = json.loads(together(*command).stdout)  # a finished run is reported
    assert again["figures"] == first["figures"]
    for path in [*(folder / "checkpoints").glob("step-0000060"), folder / "evaluations"]:
        path.rename(folder / f"gone-{path.name}")
    resumed = json.loads(together(*command).stdout)
    assert resumed["figures"] == first["figures"]


def test_gpus_starts_the_processes_and_passes_on_how_they_ended(cli):
    both = ["--gpus", "2", "--device", "cpu", "metrics.fd=false"]
    done = json.loads(cli("run", "ict_ring", *RING, *both, "--json").stdout)
    assert json.loads(Path(done["folder"], "lock.json").read_text())["world_size"] == 2
    uneven = cli("run", "ict_ring", *RING, *both, "train.batch_size=33", code=2).stderr
    assert uneven.count("do not divide evenly over 2 processes") == 1
    assert (
        "step 40; saved"
        in cli("run", "ict_ring", *RING, *both, "train.seed=1", TERM_AT="25", TERM_WITH="SIGTERM", code=75).stderr
    )


LEAVE = """
import atexit, os, threading
import genkit, torch.distributed as dist
genkit.run(genkit.load_recipe("ict_ring", ["train.steps=2", "metrics.fd=false"]))
atexit.unregister(dist.destroy_process_group)
dist.destroy_process_group()
print("threads", len(os.listdir("/proc/self/task")), "of them of ours", len(threading.enumerate()))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_no_thread_of_the_group_outlives_it(tmp_path):
    """One that does ends the interpreter with SIGABRT now and then."""
    (tmp_path / "leave.py").write_text(LEAVE)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "leave.py"]
    quiet = {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **quiet}, timeout=200, check=True)
    assert done.stdout.count("threads 2 of them of ours 2") == 2, (
        done.stdout
    )  # ours, which watches, is a daemon's equal


def test_the_rate_is_that_of_training(monkeypatch):
    clock = [0.0]

    def now():
        clock[0] += 0.001
        return clock[0]

    def recorded(*given):
        clock[0] += 1000
        return {"steps": {}}

    monkeypatch.setattr(time, "monotonic", now)
    monkeypatch.setattr(evaluating, "recorded", recorded)
    run = genkit.run(
        genkit.load_recipe("ict_ring", ["train.steps=8", "train.log_every_steps=2", "evaluate.every_steps=2"])
    )
    rates = [e["images_per_sec"] for e in store.events(run.folder) if e["event"] == "step"]
    assert len(rates) == 4 and max(rates) < 10 * min(rates)
