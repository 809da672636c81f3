"""Machines of one run, each an agent of torchrun, on loopback: they meet, train as one, and go on after a kill."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from genkit.runs import store
from genkit.training import checkpoint

RING = ["run", "ict_ring", "--device", "cpu", "train.batch_size=32", "train.steps=400", "train.save_every_steps=50"]
RING += ["train.log_every_steps=10", "evaluate.samples=500"]


@pytest.fixture
def agents():
    """`agents(out, restarts)`: one for each of two machines, of one process each."""
    started = []

    def start(out, restarts=0):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        meet = ["--nnodes=2", "--nproc-per-node=1", f"--max-restarts={restarts}", "--rdzv-backend=c10d", "--rdzv-id=1"]
        meet += [f"--rdzv-endpoint=127.0.0.1:{port}", "--local-addr=127.0.0.1", "--monitor-interval=0.1"]
        words = [sys.executable, "-m", "torch.distributed.run", *meet, "-m", "genkit", *RING, "--out", str(out)]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        for _ in range(2):
            process = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            started.append(process)
        return started[-2:]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def final(folder):
    return checkpoint.load(checkpoint.latest(Path(folder) / "checkpoints")[0], "cpu")[0]


def same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """What two processes of one machine come to."""
    out = tmp_path_factory.mktemp("here") / "r"
    words = [sys.executable, "-m", "genkit", *RING, "--gpus", "2", "--out", str(out)]
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return final(out)


def test_two_machines_come_to_the_bits_of_two_processes_of_one(agents, here):
    for agent in agents("r"):
        _, said = agent.communicate(timeout=120)
        assert agent.returncode == 0, said
    same(final("r"), here)
    assert json.loads(Path("r/lock.json").read_text())["world_size"] == 2


def test_after_a_kill_both_machines_go_on_from_the_last_checkpoint(agents, here):
    both = agents("r", restarts=3)
    deadline = time.monotonic() + 100
    while not (Path("r/lock.json").is_file() and checkpoint.present(Path("r/checkpoints"))):
        assert time.monotonic() < deadline and all(agent.poll() is None for agent in both)
        time.sleep(0.01)
    os.kill(worker(both[1]), signal.SIGKILL)
    for agent in both:
        _, said = agent.communicate(timeout=150)
        assert agent.returncode == 0, said
    begun = [event["k"] for event in store.events(Path("r")) if event["event"] in ("start", "resume")]
    assert len(begun) == 2 and begun[0] == 0 and begun[1] % 50 == 0 and begun[1] >= 50
    same(final("r"), here)


def worker(agent):
    """The process of genkit that an agent has started."""
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    return next(int(pid) for pid in children if b"genkit" in Path(f"/proc/{pid}/cmdline").read_bytes())
