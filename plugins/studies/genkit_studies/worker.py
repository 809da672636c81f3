"""A worker of the local pool: a process that has everything imported, and forks for each job.

A line of JSON in, {"argv": [words after genkit], "log": "path"}, is a job; the lines out are {"pid": …} when it runs
and {"code": …} when it has ended. A job so costs no start of Python and torch, and is yet a
process of its own: it can crash, and be killed, alone. When the input ends, whoever asked is gone: the job is told to
save and leave.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch  # noqa: F401 - once, for all jobs

from genkit.errors import GenkitError, OutOfMemory
from genkit.training.signals import SIGNALS

CRASHED, OUT_OF_MEMORY = 70, 71  # exit codes beside those of the command line


# What jobs would import, each for itself and for seconds: torch's optimizers ask for its compiler when they are made.
WARM = ("torch._dynamo", "genkit.runs.running", "genkit.cli.run", "genkit_studies.estimate")


def serve() -> None:
    """Take jobs, one after the other, until the input ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # they are meant for the job, and reach it once it can listen
    for name in WARM:
        importlib.import_module(name)
    tell, lines = os.dup(1), _Lines(0)
    os.dup2(2, 1)
    _say(tell, ready=True)
    while job := lines.next():
        ended, alive = os.pipe()
        child = os.fork()
        if child == 0:
            _call(json.loads(job))
        os.close(alive)
        _say(tell, pid=child)
        lines.wait_or(ended, child)
        os.close(ended)
        _, status = os.waitpid(child, 0)
        _say(tell, code=os.waitstatus_to_exitcode(status))


class _Lines:
    """Lines from a descriptor, which can be watched for its end meanwhile."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.rest = descriptor, b""

    def next(self) -> str:
        """The next line; empty at the end."""
        while b"\n" not in self.rest:
            more = os.read(self.descriptor, 65536)
            if not more:
                return ""
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode()

    def wait_or(self, ended: int, child: int) -> None:
        """Wait until the child has closed its end of a pipe; tell it to leave if the input ends before."""
        watched = [ended, self.descriptor]
        while ended in watched:
            ready, _, _ = select.select(watched, [], [])
            if ended in ready:
                return
            more = os.read(self.descriptor, 65536)
            self.rest += more
            if not more:
                os.kill(child, signal.SIGTERM)
                watched.remove(self.descriptor)


def _say(to: int, **what: Any) -> None:
    with suppress(BrokenPipeError):  # nobody may listen any more
        os.write(to, json.dumps(what).encode() + b"\n")


def _call(job: Mapping[str, Any]) -> None:
    """In the child: the job, its words in its log, and out."""
    from genkit.cli import main

    code = CRASHED
    try:
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source, target)
        sys.stdout = sys.stderr = os.fdopen(log, "w", buffering=1)
        main(job["argv"])
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
        code = OUT_OF_MEMORY if isinstance(left.__cause__, OutOfMemory) else code
    except GenkitError as error:
        print(f"genkit: {error}", file=sys.stderr)
        code = error.exit_code
    except BaseException:
        traceback.print_exc()
        code = CRASHED
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def reason(log: Path) -> str:
    """The last line that a job wrote, without the program's name."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return last.removeprefix("genkit: ")[:500]
