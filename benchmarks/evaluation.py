"""What an evaluation costs beyond the network: features into all metrics, against the bare forward passes.

    OMP_NUM_THREADS=1 python benchmarks/evaluation.py [--images 256] [--rounds 3]

Inception-v3 with random weights (only time is looked at) on random 32x32 images, and fd, kid, inception-score and
precision-recall on its features. Both sides see the same images and take turns within one process; the figure is
the ratio of CPU seconds, each the least of its rounds. The blocks of an evaluation have 256 images: fewer make
the ratio worse.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

import genkit
from genkit.data.sources import Resident
from genkit.evaluation.images import Images, blocks
from genkit.evaluation.scoring import Scorer
from genkit.kinds import Context, Spec
from genkit_metrics.inception import Extractor, Inception
from genkit_metrics.inception_net import Network

SPEC = Spec(channels=3, height=32, width=32)
METRICS = ("fd", "kid", "inception-score", "precision-recall")


def seconds(work: Callable[[], Any]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    extractor = Extractor(Network().state_dict(), SPEC, "random")
    Inception.build = lambda self, context: extractor  # type: ignore[method-assign]
    metrics = {name: genkit.component("metric", name, features="inception") for name in METRICS}
    x = torch.randint(256, (arguments.images, *SPEC.shape), dtype=torch.uint8)
    judged = Scorer(metrics, Context(spec=SPEC), Resident(x=x[:2], spec=SPEC, identity="two images"))
    rounds = []
    for _ in range(arguments.rounds):
        bare = seconds(lambda: extractor(x))
        whole = seconds(lambda: judged._feed(judged._new(), blocks(Images(x)), False))
        rounds.append((whole, bare))
    whole, bare = map(min, zip(*rounds, strict=True))
    ratio = whole / bare
    print(
        f"{arguments.images} images: {bare:.2f} s of forward passes, {whole:.2f} s with all metrics, ratio {ratio:.3f}"
    )


if __name__ == "__main__":
    main()
