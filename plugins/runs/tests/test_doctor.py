"""`genkit doctor`: what is whole passes, and each check finds the fault that is put in."""

import errno
import fcntl
import json
import math
import os
import re
import resource
import shutil
import subprocess
import sys
import time
import types
from importlib import metadata
from pathlib import Path

import pytest
import torch

import genkit
from genkit import cli
from genkit.kernel import discovery, registry
from genkit.kernel.loading import load_recipe
from genkit.runs import store
from genkit.testing import present, provide
from genkit_runs import (
    checks_machine,
    checks_places,
    checks_software,
    checks_store,
    disks,
    doctor,
    findings,
    selftest,
)

ROOT = Path(__file__).parents[3]


def found(check, *given):
    """What a check finds that is not ok, as lines."""
    return [f"{f.state} {f.about}: {f}" for f in findings.of("check", check, *given) if f.state != "ok"]


def only(lines, *words):
    """The one line that has a word of the fault; it says all of them, and what to do."""
    (line,) = [line for line in lines if words[0] in line]
    assert all(word in line for word in words) and "; " in line, line


@pytest.fixture
def call(capsys):
    def words(*argv):
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main(["doctor", *argv])
        return left.value.code, capsys.readouterr()

    return words


@pytest.fixture
def disk(monkeypatch):
    """`disk(free)`: so much is free everywhere."""

    def set_(free):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12 - free, free))

    return set_


def distribution(folder, name, version="0.1.0", requires=(), files=()):
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
    (info / "RECORD").write_text("".join(f"{file}\n" for file in files))
    return metadata.PathDistribution(info)


# ---- the command ---------------------------------------------------------------------------------


def test_all_is_well_where_the_tests_run(call):
    code, told = call("--json")
    said = json.loads(told.out)
    wrong = [f for f in said["findings"] if f["state"] == "problem"]
    assert (code, said["healthy"], wrong) == (0, True, [])
    about = {f["about"] for f in said["findings"]}
    assert about >= {"python", "torch", "plugins", "components", "processors", "cache", "runs", "locks", "hdf5"}
    (last,) = [f for f in said["findings"] if f["about"] == "self-test"]
    assert (last["state"], "same bits" in last["found"]) == ("ok", True)
    assert not Path("runs").exists() and not list(Path().glob(".doctor*"))  # it leaves nothing behind


def test_a_problem_makes_the_exit_code_and_a_check_that_fails_is_one(call, monkeypatch):
    def wrong():
        yield findings.ok("this", "is well")
        raise KeyError("line 1\nline 2")

    monkeypatch.setattr(doctor, "CHECKS", {"environment": "checks_software:variables"})
    assert call()[0] == 0
    monkeypatch.setattr(checks_software, "wrong", wrong, raising=False)
    monkeypatch.setattr(doctor, "CHECKS", {"odd": "checks_software:wrong", "gone": "nowhere:check"})
    code, told = call()
    assert code == 1 and told.err == "2 problems, 0 notes\n" and "Traceback" not in told.out
    header, well, odd, gone = told.out.splitlines()
    assert header.endswith("found, and what to do") and re.match(r"ok +this +is well$", well)
    assert re.match(r"problem  odd .*\(KeyError: 'line 1.*line 2'\); mend", odd) and "ModuleNotFoundError" in gone
    assert not json.loads(call("--json")[1].out)["healthy"]


def test_a_torch_that_cannot_be_imported_is_told_once(call, tmp_path, monkeypatch):
    broken = tmp_path / "site" / "torch"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('no such object file')")
    with present(tmp_path / "site"):
        monkeypatch.setattr(doctor, "CHECKS", {n: c for n, c in doctor.CHECKS.items() if n in ("self-test", "runs")})
        code, told = call()
    assert (code, told.out.count("problem")) == (1, 1) and "ImportError: no such object file; reinstall" in told.out
    (broken / "__init__.py").write_text("import os; os.kill(os.getpid(), 11)")
    with present(tmp_path / "site"):
        only(found(selftest.selftest), "import torch", "problem", "SIGSEGV")


def test_a_working_directory_that_is_gone(call, tmp_path, monkeypatch):
    assert found(checks_machine.here) == []
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, told = call("--json")
    assert code == 1 and json.loads(told.out)["findings"][-1]["found"].startswith("is gone")


# ---- software ------------------------------------------------------------------------------------


def test_versions_that_are_too_old_or_untested(tmp_path, monkeypatch):
    assert not [line for line in found(checks_software.versions) if line.startswith("problem")]
    distribution(tmp_path / "site", "genkit-lab-probe", requires=["numpy>=99", "nowhere>=1", "other; extra == 'x'"])
    monkeypatch.setattr(checks_software, "TORCH", (2, 0))
    monkeypatch.setattr(checks_software, "PYTHON", ((2, 7), (3, 1)))
    with present(tmp_path / "site"):
        lines = found(checks_software.versions)
    only(lines, "numpy: ", "problem", "too old", "numpy>=99")
    only(lines, "nowhere: ", "problem", "is not installed")
    only(lines, "torch: ", "note", "untested")
    only(lines, "python: ", "note", "untested")
    assert len(lines) == 4
    monkeypatch.setattr(checks_software, "PYTHON", ((4, 0), (4, 1)))
    only(found(checks_software.versions), "python: ", "problem", "too old")
    assert [checks_software.release(v) for v in ("2.10.0+cu128", "3.0rc1", "odd")] == [(2, 10, 0), (3, 0), ()]


def test_the_newest_tested_versions_are_those_of_the_tests():
    pinned = re.search(r"^torch==(\d+)\.(\d+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert (int(pinned[1]), int(pinned[2])) == checks_software.TORCH
    listed = set(re.findall(r"^\| `GENKIT_(\w+)` \|", (ROOT / "docs" / "cli.md").read_text(), re.MULTILINE))
    assert listed == checks_software.VARIABLES


def test_another_project_of_the_name(tmp_path):
    distribution(tmp_path / "site", "Genkit", "0.5.2")
    with present(tmp_path / "site"):
        only(found(checks_software.distributions), "another project", "problem", "0.5.2", "pip uninstall genkit")


def test_a_package_that_is_not_the_one_that_was_installed(tmp_path, monkeypatch):
    site = tmp_path / "site"
    (site / "genkit").mkdir(parents=True)
    (site / "genkit" / "__init__.py").write_text("")
    empty = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    core = distribution(site, "genkit-lab", files=[f"genkit/__init__.py,{empty},0"])
    only(found(checks_software._imported, [core]), "is imported, and not", "note", "PYTHONPATH")
    only(found(checks_software._imported, []), "is not installed", "note")
    monkeypatch.setattr(genkit, "__file__", str(site / "genkit" / "__init__.py"))
    assert found(checks_software._imported, [core]) == []
    (site / "genkit" / "ai.py").write_text("")
    only(found(checks_software._imported, [core]), "1 files", "problem", "genkit/ai.py")
    (site / "genkit" / "__init__.py").write_text("x = 1")
    only(found(checks_software._imported, [core]), "2 files", "problem", "genkit/__init__.py")
    monkeypatch.setattr(genkit, "__path__", ["here", "there"])
    only(found(checks_software._imported, [core]), "put together", "problem", "here, there")


def test_distributions_of_other_versions(tmp_path):
    old = distribution(tmp_path / "site", "genkit-lab-old", "0.0.9")
    Path(old._path, "entry_points.txt").write_text("[genkit]\nold = old_of_probe\n")
    with present(tmp_path / "site"):
        only(found(checks_software.distributions), "genkit-lab-old 0.0.9", "note", genkit.__version__)


def test_plugins_that_are_not_loaded_say_why(tmp_path, monkeypatch):
    assert found(checks_software.plugins) == []
    for name, code in (("torn", "1 / 0"), ("older", "GENKIT_API = 0"), ("left", "GENKIT_API = 1")):
        provide(tmp_path / "site", name, f"{name}_of_probe")
        (tmp_path / "site" / f"{name}_of_probe.py").write_text(code)
    monkeypatch.setenv("GENKIT_WITHOUT", "left")
    with present(tmp_path / "site"):
        lines = found(checks_software.plugins)
    only(lines, "torn", "problem", "ZeroDivisionError", "GENKIT_WITHOUT=torn")
    only(lines, "older", "problem", "incompatible", "made for API 0")
    only(lines, "left of", "note", "disabled")


def test_components_that_cannot_be_imported_or_are_there_twice(tmp_path):
    assert found(checks_software.components) == []
    code = (
        "from genkit import hookimpl, lazy\nGENKIT_API = 1\n@hookimpl\ndef genkit_loss():\n"
        "    return {'l2': lazy('nowhere_of_probe:A', 'a'), 'l9': lazy('nowhere_of_probe:B', 'b')}\n"
    )
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "twice_of_probe.py").write_text(code)
    provide(tmp_path / "site", "twice", "twice_of_probe")
    with present(tmp_path / "site"):
        lines = found(checks_software.components)
    only(lines, "and 1 more", "problem", "nowhere_of_probe", "genkit-probe-twice")
    only(lines, "is offered by", "note", "loss 'l2'", "genkit-probe-twice")


def test_variables_that_nobody_reads(monkeypatch):
    assert found(checks_software.variables) == []
    for name, value in (("GENKIT_RUN", "x"), ("GENKIT_COFFEE", "1"), ("GENKIT_RUNS", "")):
        monkeypatch.setenv(name, value)
    lines = found(checks_software.variables)
    only(lines, "GENKIT_RUN=x", "problem", "did you mean GENKIT_RUNS?")
    only(lines, "GENKIT_COFFEE", "note")
    only(lines, "GENKIT_RUNS is set and empty", "note")


# ---- the machine ---------------------------------------------------------------------------------


def test_more_threads_than_processors(tmp_path, monkeypatch):
    monkeypatch.setattr(checks_machine, "QUOTA", tmp_path / "cpu.max")
    assert found(checks_machine.processors) == []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    only(found(checks_machine.processors), "torch takes 2", "note", "OMP_NUM_THREADS=1")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    monkeypatch.setenv("OMP_NUM_THREADS", "all")
    only(found(checks_machine.processors), "OMP_NUM_THREADS=all", "problem")


def test_why_no_card_is_seen(tmp_path, monkeypatch):
    def why(cuda, said=""):
        lacking = types.SimpleNamespace(init=lambda: 1 / 0)
        fake = types.SimpleNamespace(version=types.SimpleNamespace(cuda=cuda), __version__="9", cuda=lacking)
        return found(lambda: [checks_machine._none(fake, said)])

    monkeypatch.setattr(checks_machine, "DRIVER", tmp_path / "version")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert why(None) == why("13.0") == []
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release\n")
    only(why(None), "built without CUDA", "note", "570.124.06")
    only(why("13.0"), "torch sees no card", "problem", "division by zero")
    only(why("13.0", "The driver is\ntoo old"), "The driver is too old", "problem", "570.124.06")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    only(why("13.0"), "CUDA_VISIBLE_DEVICES", "note")


def test_cards_are_tried(monkeypatch):
    card = types.SimpleNamespace(name="Card", major=9, minor=0)
    for name, value in (("is_available", True), ("device_count", 1), ("get_device_properties", card)):
        monkeypatch.setattr(torch.cuda, name, lambda *given, value=value: value)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: (5 * 10**8, 8 * 10**10))
    monkeypatch.setattr(torch, "ones", lambda *shape, device: torch.full(shape, 1.0))
    only(found(checks_machine.cards), "0.5 GB of 80.0 GB free", "note cuda:0", "Card", "9.0")
    monkeypatch.setattr(torch, "ones", lambda *shape, device: torch.full(shape, 2.0))
    only(found(checks_machine.cards), "adds wrongly", "problem cuda:0")

    def no_kernel(*shape, device):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(torch, "ones", no_kernel)
    only(found(checks_machine.cards), "no kernel image", "problem cuda:0")


def test_limits_that_are_low(monkeypatch, disk):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY,) * 2)
    disk(10**9)
    assert found(checks_machine.limits) == []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (60, 60))
    disk(64 * 10**6)
    lines = found(checks_machine.limits)
    only(lines, "60 files", "problem", "ulimit -n")
    only(lines, "files may have", "problem", "ulimit -f")
    only(lines, "may map", "note", "ulimit -v")
    only(lines, "/dev/shm", "note", "--shm-size")


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"WORLD_SIZE": "2"}, ["RANK is not set", "problem"]),
        ({"WORLD_SIZE": "two"}, ["is no number of processes", "problem"]),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, ["waits for the others", "note"]),
        ({"MASTER_ADDR": "a"}, ["without other processes", "note"]),
        ({"MASTER_PORT": "http"}, ["is no port", "problem"]),
        ({"GLOO_SOCKET_IFNAME": "eth99"}, ["is no interface", "problem", "lo"]),
        ({"GLOO_SOCKET_IFNAME": "lo"}, ["IFNAME=lo", "note"]),
        ({"NCCL_SOCKET_IFNAME": "^docker"}, ["^docker", "note"]),
        ({"NCCL_ASYNC_ERROR_HANDLING": "1"}, ["is an old name", "note", "TORCH_NCCL_ASYNC"]),
        ({"TORCH_NCCL_ASYNC_ERROR_HANDLING": "0"}, ["without end", "problem"]),
        ({"TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC": "1 min"}, ["is no number of seconds", "problem"]),
        ({"TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC": "60"}, ["TIMEOUT_SEC=60", "note"]),
    ],
)
def test_what_the_environment_says_of_several_processes(monkeypatch, variables, says):
    for name in (*checks_machine.GROUP, "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert found(checks_machine.processes) == []
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    only(found(checks_machine.processes), *says)


# ---- folders -------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that nobody can write")
def test_folders_that_cannot_be_written(monkeypatch):
    for variable, check in (("GENKIT_RUNS", checks_store.disk_of_runs), ("GENKIT_CACHE", checks_places.cache)):
        monkeypatch.setenv(variable, "/proc/mine/of/it")
        only(found(check), "/proc/mine/of/it", "problem", "cannot be written", f"set {variable}")
    monkeypatch.setenv("GENKIT_RUNS", str(Path("file").absolute()))
    Path("file").write_text("")
    only(found(checks_store.disk_of_runs), "cannot be written", "problem", "Not a directory")


def test_weights_that_are_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("GENKIT_WEIGHTS", str(tmp_path))
    assert found(checks_places.cache) == []
    monkeypatch.setenv("GENKIT_WEIGHTS", "nowhere")
    only(found(checks_places.cache), "GENKIT_WEIGHTS=nowhere", "problem")


def test_a_disk_that_is_full(disk):
    assert found(checks_store.disk_of_runs) == []
    disk(5 * 10**8)
    only(found(checks_store.disk_of_runs), "0.5 GB free", "note", "make room")
    disk(10**6)
    only(found(checks_store.disk_of_runs), "1.0 MB free", "problem", "make room")
    only(found(checks_places.cache), "1.0 MB free", "problem", "GENKIT_CACHE")


def test_what_kind_of_disk_it_is(tmp_path, monkeypatch):
    (tmp_path / "my runs").mkdir()
    point = str(tmp_path / "my runs").replace(" ", "\\040")
    mounts = f"/dev/a / ext4 rw 0 0\nhost:/x {point} nfs4 rw 0 0\ntmpfs {tmp_path} tmpfs rw 0 0\n"
    (tmp_path / "mounts").write_text(mounts)
    assert disks.disk(Path("/"), mounts) == ("ext4", "/dev/a", {"rw"})
    monkeypatch.setattr(disks, "MOUNTS", tmp_path / "mounts")
    only(found(checks_store.disk_of_runs), "in memory (tmpfs)", "note runs")
    monkeypatch.setenv("GENKIT_RUNS", str(tmp_path / "my runs"))
    only(found(checks_store.disk_of_runs), "nfs4, host:/x", "note runs", "network", "told by locks")
    (tmp_path / "mounts").write_text(mounts.replace("nfs4 rw", "nfs4 rw,local_lock=all"))
    only(found(checks_store.disk_of_runs), "told by leases", "note runs")
    (line,) = checks_store.locks(tmp_path / "my runs")
    assert "leases tell who has a run" in str(line)


@pytest.mark.parametrize(
    ("kind", "options", "hold"),
    [
        ("ext4", "rw", True), ("nfs4", "rw", True), ("nfs", "rw", True), ("nfs", "rw,nolock", False),
        ("nfs4", "rw,local_lock=flock", False), ("lustre", "rw", False), ("lustre", "rw,flock", True),
        ("lustre", "rw,localflock", False), ("fuse.sshfs", "rw", False), ("cifs", "rw", False), ("ceph", "rw", True),
    ],
)  # fmt: skip
def test_where_locks_hold_between_machines(kind, options, hold):
    assert disks.locks_hold(kind, set(options.split(","))) is hold


def raising(number):
    def act(*given):
        raise OSError(number, os.strerror(number))

    return act


def test_locks_that_do_not_hold(tmp_path, monkeypatch):
    assert found(checks_store.locks, tmp_path) == []
    monkeypatch.setattr(fcntl, "flock", lambda file, how: None)
    only(found(checks_store.locks, tmp_path), "a second process got a lock", "problem", "GENKIT_LOCKS")
    monkeypatch.setattr(fcntl, "flock", raising(errno.ENOLCK))
    only(found(checks_store.locks, tmp_path), "cannot be locked", "problem", "No locks available")


def test_files_that_cannot_be_synced_or_slowly(tmp_path, monkeypatch):
    assert found(checks_store.syncs, tmp_path) == []
    monkeypatch.setattr(checks_store, "SLOW_SEC", 0.0)
    only(found(checks_store.syncs, tmp_path), "a megabyte is synced in", "note")
    monkeypatch.setattr(os, "fsync", raising(errno.EINVAL))
    only(found(checks_store.syncs, tmp_path), "cannot be synced", "problem", "Invalid argument")


@pytest.mark.parametrize("torn", [True, False], ids=["torn", "gone"])
def test_files_that_are_not_replaced_at_once(tmp_path, monkeypatch, torn):
    def slowly(source, target):
        content = source.read_bytes()
        target.write_bytes(content[:7]) if torn else target.unlink()
        time.sleep(0.002)
        target.write_bytes(content)

    monkeypatch.setattr(os, "replace", slowly)
    only(found(checks_store.renames, tmp_path), "gone or torn", "problem rename")


def test_hdf5_files_without_locks_or_unusable(tmp_path, monkeypatch):
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    assert found(checks_store.hdf5, tmp_path) == []
    code = "from pathlib import Path; from genkit_runs.checks_store import hdf5; print(*hdf5(Path('.')))"
    env = {**os.environ, "HDF5_USE_FILE_LOCKING": "FALSE", "PYTHONPATH": os.pathsep.join(sys.path)}  # read once by HDF5
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    only(done.stdout.splitlines(), "are not locked", "HDF5_USE_FILE_LOCKING=FALSE")
    (tmp_path / "file.h5").unlink()
    (tmp_path / "file.h5").mkdir()
    only(found(checks_store.hdf5, tmp_path), "cannot be used", "problem hdf5")


def test_runs_that_are_damaged(monkeypatch):
    few = ["train.steps=4", "train.save_every_steps=2", "evaluate.samples=200", "train.batch_size=16"]
    run = genkit.run(load_recipe("ict_ring", few)).folder
    assert found(checks_store.runs) == []
    (run / "checkpoints" / ".tmp-0000001-7").mkdir()
    only(found(checks_store.runs), "1 half-written", "note", "genkit runs gc")
    with store.held(run):
        assert found(checks_store.runs) == []  # it may be writing just that
    shutil.rmtree(run / "checkpoints" / ".tmp-0000001-7")

    def copy(name):
        return Path(shutil.copytree(run, Path("runs", name)))

    with (copy("bits") / "checkpoints" / "step-0000004" / "state.safetensors").open("r+b") as file:
        file.write(b"\xff")
    (copy("half") / "lock.json").write_text('{"na')
    (copy("gone") / "lock.json").unlink()
    (copy("torn") / "recipe.toml").write_text("= 3")
    lines = found(checks_store.runs)
    for name, why in (("bits", "SHA-256"), ("half", "no JSON"), ("gone", "is missing"), ("torn", "recipe.toml")):
        only(lines, f"runs/{name}", "problem", why, "--fresh")
    assert len(lines) == 4
    monkeypatch.setattr(checks_store, "VERIFY_SEC", -1.0)
    assert len(found(checks_store.runs)) == 3  # for want of time


# ---- the self-test -------------------------------------------------------------------------------


def test_the_self_test_is_skipped_without_its_plugins(monkeypatch):
    monkeypatch.setenv("GENKIT_WITHOUT", "metrics")
    registry.forget()
    only(found(selftest.selftest), "skipped", "note self-test", "genkit-lab-metrics")
    monkeypatch.delenv("GENKIT_WITHOUT")
    registry.forget()
    assert discovery.installed().all


def test_a_plugin_that_breaks_a_run_is_found_by_the_self_test(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")  # by accident: it is alone all the same
    code = (
        "from genkit import hookimpl\nGENKIT_API = 1\n"
        "@hookimpl\ndef genkit_run_start(folder, recipe, key):\n    raise ValueError('not today')\n"
    )
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "breaks_of_probe.py").write_text(code)
    provide(tmp_path / "site", "breaks", "breaks_of_probe")
    with present(tmp_path / "site"):
        only(found(selftest.selftest), "not today", "problem self-test", "--debug")


def test_a_self_test_that_does_not_end(monkeypatch):
    monkeypatch.setattr(selftest, "PATIENCE_SEC", 0.05)
    only(found(selftest.selftest), "is not done after", "problem self-test")


def test_what_the_self_test_says():
    good = {"figures": {"fd": 1.0}, "same": True, "device": "cpu", "seconds": 1.0}

    def judged(**changed):
        return found(lambda: [selftest._judged({**good, **changed})])

    assert judged() == []
    only(judged(figures={"fd": math.nan}), "fd of ict_ring is no finite number", "problem")
    only(judged(same=False), "resumed differs", "problem")
    done = types.SimpleNamespace(returncode=-11, stderr="")
    assert selftest._last_words(done).endswith("was ended by SIGSEGV")
    done = types.SimpleNamespace(returncode=1, stderr="Traceback\nImportError: torn\n")
    assert selftest._last_words(done) == "ImportError: torn"
    assert [findings.size(n) for n in (78e9, 5e8, 5e6, 20480)] == ["78.0 GB", "0.5 GB", "5.0 MB", "20.5 kB"]
