"""Kills its process when the run touches its folder for the n-th time after step k: $KILL = "k:n"."""

import os
import signal
import sys

from genkit.hookspecs import hookimpl

GENKIT_API = 1
STEP, TOUCH = map(int, os.environ.get("KILL", "-1:0").split(":"))
seen = {"touches": 0, "armed": STEP == 0}


def touched(event, args):
    if seen["armed"] and event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir") and "runs" in str(args[0]):
        seen["touches"] += 1
        if seen["touches"] >= TOUCH:
            os.kill(os.getpid(), signal.SIGKILL)


if STEP >= 0:
    sys.addaudithook(touched)


@hookimpl
def genkit_step_end(state, figures, key):
    if state.k == STEP:
        seen["armed"] = True
        if TOUCH == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("TERM_AT") == str(state.k):
        os.kill(os.getpid(), getattr(signal, os.environ["TERM_WITH"]))
