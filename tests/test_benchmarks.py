"""The measurements run: at sizes that say nothing about speed, but the code is that of the real ones."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(script, *words, code=0):
    given = [sys.executable, str(BENCHMARKS / script), *map(str, words)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(given, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == code, done.stderr
    return done.stdout


def states(folder, stage):
    told = json.loads((folder / f"tiny-cpu-{stage}.json").read_text())
    assert told["tiny"]
    assert told["command"].startswith("python ")
    return {name: case["state"] for name, case in told["cases"].items()}


def test_the_day_on_a_card_runs_here_too_and_goes_on_where_it_stopped(tmp_path):
    words = ["--tiny", "--device", "cpu", "--out", tmp_path]
    run("gpu_day.py", *words)
    compiled, parts = "bf16, compiled", "bf16, compiled, 1024 images in parts of 128"
    for stage in ("adm", "ddpmpp", "ncsnpp"):
        told = states(tmp_path, f"step-{stage}")
        assert told.pop(compiled) == told.pop(parts, "skipped") == "skipped"
        assert told == dict.fromkeys(("bf16", "bf16, not deterministic", "tf32", "float32"), "done")
    assert states(tmp_path, "peer") == {"published loop": "skipped"}
    correct = states(tmp_path, "correct")
    assert len(correct) == 9 and set(correct.values()) == {"done"}
    assert [*states(tmp_path, "compiled").values()] == ["skipped"] * 3
    for stage, cases in {"recipes": 3, "samples": 2, "figures": 1, "proxy": 2}.items():
        assert list(states(tmp_path, stage).values()) == ["done"] * cases
    again = run("gpu_day.py", *words, "--stages", "step-adm").splitlines()
    assert [line.split(":")[0] for line in again] == [f"step-adm {compiled}"]  # which alone is not there


def test_a_stage_of_the_day_that_is_killed_goes_on(tmp_path):
    words = ["--tiny", "--device", "cpu", "--out", tmp_path]
    stage = [sys.executable, str(BENCHMARKS / "gpu_day.py"), "--stage", "proxy", *map(str, words)]
    begun = tmp_path / "work/tiny-cpu-proxy/ict_digits/lock.json"
    with subprocess.Popen(stage, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        while not begun.exists() and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert run("gpu_day.py", *words, "--stages", "proxy").splitlines() == ["proxy ict: done", "proxy ct: done"]


def test_the_page_of_a_store_is_measured():
    told = run("store_page.py", "--runs", 3)
    assert "3 runs of" in told and (", 3 rows by its own clock" in told or "no Chromium" in told)


@pytest.mark.parametrize("broken", [False, True])
def test_masks_that_do_not_follow_the_key_are_found(broken, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from gpu import correct
    from gpu.day import Day

    day = Day(device="cpu", tiny=True, work=Path())
    if broken:
        count = iter(range(10**6))
        monkeypatch.setattr(correct.Key, "integer", lambda self, *given, **more: next(count))
        with pytest.raises(AssertionError, match="differs by"):
            correct.masks(day, "float32")
    else:
        assert correct.masks(day, "float32")["same key"] < 1e-4


def test_a_case_that_fails_is_told_and_tried_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from gpu.day import Day, through

    day, file, calls = Day(device="cpu", tiny=True, work=tmp_path), tmp_path / "stage.json", []

    def fails():
        calls.append("fails")
        raise ValueError("no luck")

    cases = {"fails": fails, "works": lambda: calls.append("works")}
    assert not through(day, "stage", cases, file)
    assert json.loads(file.read_text())["cases"]["fails"]["why"] == "ValueError: no luck"
    assert through(day, "stage", {**cases, "fails": lambda: calls.append("again")}, file)
    assert calls == ["fails", "works", "again"]


def test_a_published_loop_takes_turns_with_ours(tmp_path):
    (tmp_path / "loop.py").write_text(
        "import sys, torch\nnet = torch.nn.Linear(4, 4)\nopt = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "for _ in range(int(sys.argv[1])):\n    net(torch.ones(4)).sum().backward()\n    opt.step()\n"
    )
    small = ["train.batch_size=1", "network.model_channels=8", "network.num_blocks=1", "network.channel_mult=[1]"]
    words = [
        "--peer",
        tmp_path,
        "--script",
        "loop.py",
        "--steps",
        6,
        "--device",
        "cpu",
        "--json",
        tmp_path / "out.json",
    ]
    run("peers.py", *words, "--set", *small, "--", 100)
    told = json.loads((tmp_path / "out.json").read_text())["figures"]
    assert told["steps"] == 6
    assert told["ratio"]["median"] > 1  # a U-Net, beside a layer of sixteen weights
    run("peers.py", *words, "--set", *small, "--", 3, code=1)  # too few steps
