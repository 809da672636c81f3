"""What steps cost at the papers' sizes, beside their floors and beside a published loop."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from shared import on_random

from genkit_bench import measuring
from gpu.day import Cases, Day, Skipped


class Paper(NamedTuple):
    """A recipe at its paper's size on one of the cards that share its batch."""

    recipe: str
    batch: int
    shape: tuple[int, int, int]
    classes: int
    tiny: str


TINY = "model_channels=16, num_blocks=1, channel_mult=[1, 2], dropout=0.1}"
PAPERS = {
    "ncsnpp": Paper("ict_cifar10", 128, (3, 32, 32), 0, 'network={use="ncsnpp", ' + TINY),
    "ddpmpp": Paper("edm_ddpmpp_cifar10", 128, (3, 32, 32), 0, 'network={use="ddpmpp", ' + TINY),
    "adm": Paper("ict_imagenet64", 64, (3, 64, 64), 1000,
                 'network={use="adm", model_channels=64, num_blocks=1, channel_mult=[1], attn_resolutions=[]}'),
}  # fmt: skip
WAYS = {
    "bf16": ["train.precision=bf16"],
    "bf16, compiled": ["train.precision=bf16", "train.compile=true"],
    "bf16, not deterministic": ["train.precision=bf16", "train.deterministic=false"],
    "tf32": ["train.precision=tf32"],
    "float32": ["train.precision=float32"],
}
STEPS = {"bf16": 30, "tf32": 20, "float32": 10}


def cases(day: Day, name: str) -> Cases:
    """A network's step in each way; compiled ones on a card alone, since compiling takes minutes on a CPU."""
    ways = {way: lambda settings=settings: step(day, PAPERS[name], settings) for way, settings in WAYS.items()}
    whole = [*WAYS["bf16, compiled"], "train.batch_size=1024", "train.micro_batch=128"]
    if name == "ncsnpp":
        ways["bf16, compiled, 1024 images in parts of 128"] = lambda: step(day, PAPERS[name], whole)
    return ways


def step(day: Day, paper: Paper, settings: list[str]) -> dict[str, Any]:
    if day.tiny and "train.compile=true" in settings:
        raise Skipped("compiling takes minutes on a CPU")
    steps = 1 if day.tiny else next(n for precision, n in STEPS.items() if f"train.precision={precision}" in settings)
    size = ["train.batch_size=2"] if day.tiny else [f"train.batch_size={paper.batch}"]
    shape, classes = (paper.shape[0], 8, 8) if day.tiny else paper.shape, paper.classes
    swaps = [paper.tiny] if day.tiny else []
    planned = on_random(
        paper.recipe, [*size, *settings], swaps, day.device, shape, classes, count=64 if day.tiny else 4096
    )
    return measuring.measure(planned, steps)


def peer(day: Day) -> Cases:
    return {"published loop": lambda: beside(day)}


def beside(day: Day) -> dict[str, Any]:
    """Our step beside a step of a published loop, by `peers.py`."""
    if not day.peer:
        raise Skipped("no --peer is given")
    file = day.work.absolute() / "peer.json"
    script = Path(__file__).parents[1] / "peers.py"
    words = [sys.executable, str(script), "--device", day.device, "--json", str(file), *day.peer]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-1000:])
    return dict(json.loads(file.read_text())["figures"])
