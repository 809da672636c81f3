"""One thread, runs in a folder of the test's own, and plugins as they are installed."""

import contextlib
import importlib.util
import os
import signal
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)
HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Nothing is written into the checkout, and nobody's runs or plugins leak in."""
    monkeypatch.chdir(tmp_path)
    for name in ("GENKIT_RUNS", "GENKIT_PLUGINS", "GENKIT_WITHOUT", "GENKIT_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GENKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def verdicts():
    """The committed simulation of studies."""
    spec = importlib.util.spec_from_file_location("verdicts", HERE.parent / "benchmarks" / "verdicts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tiny():
    """Overrides that make ict_digits a matter of seconds."""
    return [
        "train.steps=24",
        "train.batch_size=16",
        "train.save_every_steps=8",
        "train.log_every_steps=8",
        "train.sample_every_steps=0",
        "network.model_channels=8",
        "network.num_blocks=1",
        "evaluate.samples=300",
    ]


class ForkedSlot:
    """A slot's process as `subprocess.Popen` would have it, forked from this one: nothing is imported again."""

    def __init__(self):
        from genkit.studies import slot

        theirs, writing = os.pipe()
        reading, ours = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(theirs, 0)
            os.dup2(ours, 1)
            os.closerange(3, 1024)  # the pipes of other slots too, which would else never see their end
            with contextlib.suppress(BaseException):
                slot.serve()
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

    from genkit import studies
    from genkit.studies import pool, smoke

    class ForkedPool(pool.LocalPool):
        def start(self):
            while len(self.free) + len(self.taken) < self.slots:
                self.free.append(pool.Slot(ForkedSlot(), len(self.free) + len(self.taken)))

    monkeypatch.setattr(studies, "LocalPool", ForkedPool)
    monkeypatch.setattr(smoke, "SECONDS", 0.0)
