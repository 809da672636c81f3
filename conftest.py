"""One thread, runs in a folder of the test's own, and plugins as they are installed."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from genkit.cli import main
from genkit.kernel import registry

torch.set_num_threads(1)
torch.ones((), requires_grad=True).backward()  # or, once torch has compiled, no process forked from this one can train


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Nothing is written into the checkout, and nobody's runs, plugins or registered classes leak in."""
    monkeypatch.chdir(tmp_path)
    for name in ("GENKIT_RUNS", "GENKIT_PLUGINS", "GENKIT_WITHOUT", "GENKIT_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GENKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GENKIT_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setattr(registry, "_OWN", {})
    yield
    if registry._OWN:
        registry._all.cache_clear()


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


@pytest.fixture
def call(capsys):
    """`call("evaluate", …)` → (stdout, stderr) of genkit in this process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}

    def call(*argv, code=0):
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in argv])
        out, err = capsys.readouterr()
        assert left.value.code == code, err
        return out, err

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)
