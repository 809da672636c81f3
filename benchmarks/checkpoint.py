"""What a checkpoint costs: its rate as a share of that of a plain synced write, and how long training stands still.

    python benchmarks/checkpoint.py [--size 900] [--rounds 7] [--folder PATH]

A state of `--size` megabytes is saved as a run saves it (copied, written, synced, hashed, read back, renamed, older
ones pruned), in turn with a file of as many bytes that is written and synced, on the same disk and within one process.
Then it is saved again while a loop takes steps of some milliseconds, as a training would: what it waits for the copy,
and its longest step meanwhile, are what the training feels of it. Each figure is the median of the rounds, with the
least and the most; the first round, which finds cold memory, is left out, but for the first copy.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from genkit.runs.callbacks import Hooks
from genkit.runs.evaluating import Saver

TENSORS = 300


def seconds(work: Callable[[], Any]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def plain(path: Path, data: memoryview) -> None:
    """As many bytes, written and synced."""
    with path.open("wb", buffering=0) as file:
        done = 0
        while done < len(data):
            done += file.write(data[done:])
        os.fsync(file.fileno())


def step(x: torch.Tensor) -> None:
    """Some milliseconds of work."""
    for _ in range(4):
        x = torch.tanh(x @ x)


def trained(stands: threading.Event, x: torch.Tensor) -> list[float]:
    """The seconds of each step while a checkpoint is written."""
    times = []
    while not stands.is_set():
        times.append(seconds(lambda: step(x)))
    return times


class Fake:
    """A state of as many bytes, half of them weights and average, half of them moments."""

    def __init__(self, size: int) -> None:
        self.k, self.bad = 0, torch.tensor(float("inf"))
        self.named = {f"program/{i:03d}": torch.randn(size // 4 // TENSORS) for i in range(TENSORS)}

    def tensors(self) -> dict[str, torch.Tensor]:
        return self.named

    def numbers(self) -> dict[str, Any]:
        return {"k": self.k}


def felt(saver: Saver, state: Any, x: torch.Tensor) -> tuple[float, float]:
    """Seconds that training waits for the copy, and those of its longest step until the checkpoint stands."""
    stands = threading.Event()
    waited = seconds(lambda: saver.save(state))
    saver._begun[-1].add_done_callback(lambda _: stands.set())
    times = trained(stands, x)
    saver.wait()
    return waited, max(times)


def told(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=900, help="megabytes")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk that is measured")
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    settings = SimpleNamespace(seed=0, keep_checkpoints=1, keep_every_steps=0)
    planned: Any = SimpleNamespace(folder=folder, recipe=SimpleNamespace(train=settings))
    state, x = Fake(given.size * 10**6), torch.randn(256, 256) / 16
    data = torch.cat(list(state.named.values())).numpy().data.cast("B")
    rounds: list[dict[str, float]] = []
    try:
        with Saver(planned, Hooks(lambda **what: None)) as saver:
            for n in range(given.rounds + 1):
                state.k += 1
                both = [lambda: saver.save(state, wait=True), lambda: plain(folder / "plain", data)]
                times = [seconds(work) for work in (both if n % 2 else both[::-1])]
                whole, bare = times if n % 2 else times[::-1]
                (folder / "plain").unlink()
                state.k += 1
                waited, longest = felt(saver, state, x)
                rounds.append({"whole": whole, "bare": bare, "waited": waited, "longest": longest})
    finally:
        shutil.rmtree(folder)
    of = {name: [one[name] for one in rounds[1:]] for name in rounds[0]}
    ratios = [one["bare"] / one["whole"] for one in rounds[1:]]
    stalls = [max(one["waited"], one["longest"]) for one in rounds[1:]]
    print(f"{given.size} MB: saved in {told(of['whole'], '.2f')} s, plain synced write {told(of['bare'], '.2f')} s")
    print(f"rate of a checkpoint / rate of a plain synced write: {told(ratios, '.2f')}")
    print(f"training waits for the copy {told(of['waited'], '.2f')} s; its longest step {told(of['longest'], '.3f')} s")
    print(f"longest standstill {told(stalls, '.2f')} s")


if __name__ == "__main__":
    main()
