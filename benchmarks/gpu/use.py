"""What a card is used for: samples, figures, and a small training that tells whether iCT is worth its name there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import torch
from shared import on_random

from genkit import Spec
from genkit.evaluation import sampling
from genkit_bench import pairing
from genkit_metrics.inception import Extractor
from genkit_metrics.inception_net import Network
from gpu.cost import PAPERS
from gpu.day import Cases, Day

ROOM = 30  # seconds that a run gets to save before its stage is over


def samples(day: Day) -> Cases:
    return {way: lambda way=way: drawn(day, way) for way in ("bf16", "float32")}


def drawn(day: Day, precision: str) -> dict[str, Any]:
    """One-step samples of iCT's network for CIFAR-10, with weights as they begin."""
    count, swaps = (8, [PAPERS["ncsnpp"].tiny]) if day.tiny else (50_000, [])
    student = on_random("ict_cifar10", [], swaps, day.device).program().student.eval()
    kind = torch.device(day.device).type
    with torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16"):
        sampling.sample(student, min(count, sampling.BLOCK), 1, 1)
        pairing.wait(day.device)
        begun = time.perf_counter()
        for index, size in sampling.shard(count, 0, 1):
            sampling.block(student, index, size, 1, 0)
        pairing.wait(day.device)
    return {"samples": count, "seconds": time.perf_counter() - begun}


def figures(day: Day) -> Cases:
    return {"features of Inception's architecture": lambda: features(day)}


def features(day: Day) -> dict[str, Any]:
    """Images a second through a network like FID's, with random weights."""
    count, block = (2, 2) if day.tiny else (50_000, 1000)
    spec = Spec(channels=3, height=32, width=32)
    extract = Extractor(Network().state_dict(), spec, "random", day.device)
    images = torch.randint(256, (block, 3, 32, 32), dtype=torch.uint8, device=day.device)
    extract(images[:2])
    pairing.wait(day.device)
    begun = time.perf_counter()
    for _ in range(count // block):
        extract(images)
    pairing.wait(day.device)
    seconds = time.perf_counter() - begun
    return {"images": count, "seconds": seconds, "images_per_second": count / seconds}


def proxy(day: Day) -> Cases:
    return {name: lambda name=name: trained(day, name) for name in ("ict", "ct")}


def trained(day: Day, method: str) -> dict[str, Any]:
    """The figures of a small training on CIFAR-10; it goes on where it was when its stage was over.

    Raises:
        TimeoutError: It is not through; the next call goes on.
    """
    recipe = f"{method}_digits" if day.tiny else f"{method}_cifar10_proxy"
    short = ["train.steps=3", "evaluate.samples=20", "metrics.pr=false"] if day.tiny else []
    folder = day.work.absolute() / recipe
    settings = [*day.settings, *short]
    words = [
        sys.executable,
        "-m",
        "genkit",
        "run",
        recipe,
        *settings,
        "--device",
        day.device,
        "--out",
        str(folder),
        "--json",
    ]
    left = min(day.until - time.monotonic() - ROOM, 10**6)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            out, said = process.communicate(timeout=max(left, 1))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGTERM)  # it saves, and leaves
            process.communicate()
            raise TimeoutError("not through; goes on the next time") from None
    if process.returncode:
        raise RuntimeError(said[-1000:])
    return {"recipe": recipe, "figures": json.loads(out)["figures"]}
