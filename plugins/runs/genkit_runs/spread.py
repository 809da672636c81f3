"""One command in several processes of this machine.

Not by torchrun's launcher: it kills who takes more than 30 seconds to save, and does not know who failed first.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress

from genkit.errors import TOLD, HardwareError
from genkit.training.signals import SIGNALS, leave

GRACE = 1  # second, once one has failed, until those are killed that cannot end, such as a stopped one


def spread(count: int, argv: list[str]) -> None:
    """The same command in several processes, for which this one speaks where they fail.

    Raises:
        HardwareError: One was killed.
        SystemExit: All have ended otherwise; with the exit code of the one that failed first.
    """
    from torch._C._distributed_c10d import TCPStore

    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)  # here it outlives each of them
    with tempfile.TemporaryFile() as told:
        place = {"WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(store.port)}
        place |= {"TORCHELASTIC_USE_AGENT_STORE": "True", TOLD: str(told.fileno())}
        ended = _wait(_started(count, argv, place, told.fileno()))
        told.seek(0)
        lines = told.read().decode().split("\0")[:-1]
    code, _, text = min(lines, key=lambda line: "genkit:" not in line, default="").partition(" ")  # or who was first
    if text:
        print(text, file=sys.stderr)
        sys.exit(int(code))
    killed = next((rank for rank, how in ended.items() if how < 0), None)
    if killed is not None and 1 not in ended.values():  # whoever ended with 1 has shown a traceback
        what = f"was ended by {signal.Signals(-ended[killed]).name}"
        raise HardwareError(f"rank {killed}", what, "the same command goes on from the last checkpoint")
    sys.exit(min(filter(None, ended.values()), default=0))


def _started(count: int, argv: list[str], place: dict[str, str], told: int) -> dict[int, int]:
    """Their ranks by process id. A signal reaches all of them, also one that comes meanwhile."""
    ranks: dict[int, int] = {}
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    leave()
    for rank in range(count):
        own = {**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        words = [sys.executable, "-m", "genkit", *argv]
        ranks[subprocess.Popen(words, env=own, pass_fds=[told], process_group=next(iter(ranks), 0)).pid] = rank

    def pass_on(number: int, frame: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(next(iter(ranks)), signal.SIGKILL if number == signal.SIGALRM else number)

    for number in (*SIGNALS, signal.SIGALRM):
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return ranks


def _wait(ranks: dict[int, int]) -> dict[int, int]:
    """How each rank ended, in the order of their ends."""
    ended: dict[int, int] = {}
    while len(ended) < len(ranks):
        pid, status = os.wait()
        ended[ranks[pid]] = how = os.waitstatus_to_exitcode(status)
        if how not in (0, 75, 130):
            signal.alarm(GRACE)
    return ended
