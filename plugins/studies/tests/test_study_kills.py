"""SIGKILL at any moment: the same command completes the study, with the bits of an undisturbed one.

The command runs in a process that is forked from this one, and so do its slots; that saves the start of torch. What
the processes do to files under `runs` is counted over all of them, and at a count drawn beforehand the kill comes:
no clock is asked. $GENKIT_KILLS is how many kills there are, 10 if not set; what they hit is printed with `-s`.
"""

import collections
import mmap
import os
import random
import shutil
import signal
import struct
import sys
from pathlib import Path

import torch
import torch._dynamo

from genkit import cli
from genkit.runs import store
from genkit.training import checkpoint
from genkit_studies import study

KILLS = int(os.environ.get("GENKIT_KILLS", "10"))
COMMAND = [
    "ablate", "ict_ring", "train.steps=24", "train.save_every_steps=6", "train.log_every_steps=6",
    "train.batch_size=16", "evaluate.samples=100", "--swap", "loss=l2", "--seeds", "2", "--device", "cpu",
]  # fmt: skip
TOUCHES = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir")


class Command:
    """The command in a process group of its own, which is killed at the n-th touch of a file under `runs`."""

    def __init__(self):
        self.shared = mmap.mmap(-1, 8192)

    @property
    def touches(self):
        return struct.unpack_from("q", self.shared)[0]

    @property
    def hit(self):
        return self.shared[8:].split(b"\0")[0].decode()

    def __call__(self, at=0, whom="all"):
        self.shared[:] = bytes(8192)
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            quiet = os.open(os.devnull, os.O_RDWR)
            log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for target, source in ((0, quiet), (1, quiet), (2, log)):
                os.dup2(source, target)
            self._arm(at, whom)
            code = 1
            try:
                cli.main(COMMAND)
                code = 0
            except SystemExit as left:
                code = left.code or 0
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def _arm(self, at, whom):
        main = os.getpid()

        def touched(event, args):
            if event not in TOUCHES or "runs/" not in str(args[0]):
                return
            count = self.touches + 1
            struct.pack_into("q", self.shared, 0, count)
            if count == at:
                told = f"{event} {Path(str(args[0])).name}".encode()[:200]
                self.shared[8 : 8 + len(told)] = told
                if whom == "all":
                    os.killpg(main, signal.SIGKILL)
                os.kill(main if whom == "study" else os.getpid(), signal.SIGKILL)

        sys.addaudithook(touched)


def outcome():
    """All that a study comes to: its trials, and every number of their last checkpoints."""
    (folder,) = study.studies()
    trials = study.load(folder).trials
    assert {trial.state for trial in trials} == {"done"}
    finals = [checkpoint.load(checkpoint.latest(t.folder / "checkpoints")[0]) for t in trials]
    return [(t.arm, t.seed, t.id, dict(t.figures)) for t in trials], finals


def same(one, other):
    assert one[0] == other[0]
    for (a, numbers), (b, others) in zip(one[1], other[1], strict=True):
        assert numbers == others and a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_killed_at_any_moment_the_same_command_completes_the_study_with_the_same_bits(forked_slots):
    command, chance = Command(), random.Random(0)
    assert command() == 0, Path("log.txt").read_text()
    undisturbed, touches = outcome(), command.touches
    shutil.rmtree("runs")
    hits, rounds = [], 0
    while len(hits) < KILLS:
        whom = chance.choice(["all", "study", "whoever"])
        code = command(chance.randrange(1, touches // 4), whom)
        if command.hit:
            hits.append(f"{whom}: {command.hit}")
        if code == 0 and not command.hit:
            same(undisturbed, outcome())
            shutil.rmtree("runs")
            rounds += 1
    code = command()
    if code == 5:  # a trial was killed alone, and counts as crashed until the command is given again
        code = command()
    assert code == 0, Path("log.txt").read_text()[-2000:]
    same(undisturbed, outcome())
    for run in store.runs():
        told = [e["event"] for e in store.events(run.folder) if e["event"] in ("start", "resume", "end")]
        ends = [e for e in store.events(run.folder) if e.get("outcome") == "done"]
        assert len(ends) == 1 and told[-1] == "end"  # nothing was run twice
    print(f"\n{len(hits)} kills, {rounds + 1} studies, {touches} touches each")
    for hit, number in sorted(collections.Counter(hits).items()):
        print(f"{number:4}  {hit}")
    assert len(set(hits)) > KILLS / 3
