"""A step of genkit beside a step of somebody's published training loop, in turn within one process.

    python benchmarks/peers.py --peer PATH --script ct_train.py [--steps 20] [--recipe ict_cifar10]
        [--set key=value ...] [--device cuda] [--json FILE] -- WORDS OF THE SCRIPT

PATH is a checkout that the user has. Its script is run as it is, with its words, and never copied: after each step of
its optimizer a step of genkit is taken, whose time is not its own. So its step is all that its loop does, data and
average included, and both share whatever the machine does. Choose words and recipe so that network, batch and
precision are alike; the JSON keeps both. Settings that a script makes for all of torch hold for both sides.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import time
from pathlib import Path

import torch
from shared import on_random, written
from torch.optim.optimizer import register_optimizer_step_post_hook

from genkit.cli import show
from genkit_bench import pairing
from genkit_bench.measuring import Bench

WARM = 5  # steps of the script before any is timed


class Done(Exception):
    """There are enough steps."""


class Turns:
    """What is called after each step of any optimizer, and takes a step of ours after one of theirs."""

    def __init__(self, ours: Bench, steps: int, device: str) -> None:
        self.ours, self.steps, self.device = ours, steps, device
        self.times: pairing.Times = []
        self.seen, self.busy, self.since = 0, False, time.perf_counter()

    def __call__(self, *given: object) -> None:
        if self.busy:
            return
        pairing.wait(self.device)
        theirs, self.busy = time.perf_counter() - self.since, True
        begun = time.perf_counter()
        self.ours.step()
        pairing.wait(self.device)
        self.busy, self.seen = False, self.seen + 1
        if self.seen > WARM:
            self.times.append({"ours": time.perf_counter() - begun, "theirs": theirs})
        if len(self.times) == self.steps:
            raise Done
        self.since = time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, metavar="PATH")
    parser.add_argument("--script", required=True, help="within PATH")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--recipe", default="ict_cifar10")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("words", nargs="*", help="of the script, behind --")
    given = parser.parse_args()
    path = given.json.absolute() if given.json else None
    turns = Turns(Bench.of(on_random(given.recipe, given.set, device=given.device)), given.steps, given.device)
    kept, home, argv = os.getcwd(), str(given.peer.absolute()), sys.argv
    os.chdir(home)
    sys.path.insert(0, home)
    sys.argv = [given.script, *given.words]
    hook = register_optimizer_step_post_hook(turns)
    try:
        turns.since = time.perf_counter()
        runpy.run_path(given.script, run_name="__main__")
    except Done:
        pass
    finally:
        hook.remove()
        os.chdir(kept)
        sys.argv = argv
    if not turns.times:
        sys.exit(f"{given.script} took {turns.seen} steps, and {WARM + 1} are needed")
    ratio = pairing.ratio(turns.times, "ours", "theirs")
    middle = {side: 1000 * pairing.interval([row[side] for row in turns.times]).median for side in ("ours", "theirs")}
    ends = f" [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio.low is not None else ""
    rows = [[given.script, *(f"{middle[s]:.2f}" for s in middle), f"{ratio.median:.3f}{ends}"]]
    show.table([["loop", "ours, ms", "theirs, ms", "ours / theirs"], *rows])
    told = {"script": given.script, "words": given.words, "recipe": turns.ours.planned.recipe.tree()}
    written(path, given.device, {**told, "ms": middle, "ratio": ratio._asdict(), "steps": len(turns.times)})


if __name__ == "__main__":
    main()
