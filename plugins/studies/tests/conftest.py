"""Studies that start no Python anew."""

import contextlib
import importlib.util
import os
import signal
from pathlib import Path

import pytest

from genkit import cli
from genkit.testing import present, provide

PROBES = Path(__file__).parents[3] / "tests" / "probes"
RING = [
    "ict_ring", "train.steps=24", "train.save_every_steps=8", "train.log_every_steps=8", "train.batch_size=16",
    "evaluate.samples=100", "--device", "cpu",
]  # fmt: skip


class ForkedSlot:
    """A worker's process as `subprocess.Popen` would have it, forked from this one: nothing is imported again."""

    def __init__(self):
        from genkit_studies import worker

        theirs, writing = os.pipe()
        reading, ours = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(theirs, 0)
            os.dup2(ours, 1)
            os.closerange(3, 1024)  # the pipes of other slots too, which would else never see their end
            with contextlib.suppress(BaseException):
                worker.serve()
            os._exit(0)
        os.close(theirs)
        os.close(ours)
        self.stdin, self.stdout = os.fdopen(writing, "wb"), os.fdopen(reading, "rb")

    def poll(self):
        return None

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def wait(self):
        os.waitpid(self.pid, 0)


@pytest.fixture
def forked_slots(monkeypatch):
    """Studies that start no Python anew: slots are forked from the test's process."""
    import torch._dynamo  # noqa: F401 - as slots have it

    from genkit_bench import measuring
    from genkit_studies import estimate, pool

    class ForkedPool(pool.LocalPool):
        def start(self):
            while len(self.free) + len(self.taken) < self.slots:
                self.free.append(pool.Slot(ForkedSlot(), len(self.free) + len(self.taken)))

    monkeypatch.setattr(pool, "LocalPool", ForkedPool)
    monkeypatch.setattr(estimate, "SECONDS", 0.0)
    monkeypatch.setattr(measuring, "ENOUGH", 1e-9)


@pytest.fixture
def ablate(forked_slots, tmp_path, capfd):
    """`ablate("--swap", …, code=5)`: the command in this process, with the probe `fragile` at hand."""

    def call(*argv, code=0, recipe=RING):
        with pytest.raises(SystemExit) as left:
            cli.main(["ablate", *recipe, *argv])
        told = capfd.readouterr()
        assert (left.value.code or 0) == code, told.err
        return told

    site = tmp_path / "site"
    with present(PROBES, provide(site, "fragile", "probe_fragile"), provide(site, "cluster", "probe_cluster")):
        yield call


@pytest.fixture(scope="session")
def verdicts():
    """The committed simulation of studies."""
    benchmarks = Path(__file__).parents[3] / "benchmarks"
    spec = importlib.util.spec_from_file_location("verdicts", benchmarks / "verdicts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
