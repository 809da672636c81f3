"""Meets a fault at a stage of a run: $FAULT is "STAGE ACT …", $FAULT_RANK the process that meets it, 0 if not set.

$BLOCKS is a file that gets a line for each block of samples that is judged: the step.

Stages: `start`, `data`, `step:K`, `loss:K` (in the step, on any process), `save:K`, `features:K` (while samples are
judged, after step K), `report`. Acts, one after the other: the name of a signal, `raise`, `exit`, or seconds to wait.
"""

import os
import signal
import sys
import time

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1
reached = {"k": 0}


def stage(name, k=0):
    """A stage is reached; the fault comes if it is its, and only once."""
    wanted, *acts = os.environ.get("FAULT", "none").split()
    if os.environ.get("FAULT_RANK", "0") != os.environ.get("RANK", "0"):
        return
    if wanted.partition(":")[0] != name or k < int(wanted.partition(":")[2] or 0):
        return
    del os.environ["FAULT"]
    for act in acts:
        if act.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, act))
        elif act == "raise":
            raise RuntimeError(f"the fault at {wanted}")
        elif act == "exit":
            raise SystemExit(0)
        else:
            time.sleep(float(act))


def audited(event, args):
    if event != "open" or not isinstance(args[2], int) or not args[2] & (os.O_WRONLY | os.O_RDWR):
        return
    if "/checkpoints/" in str(args[0]):
        stage("save", reached["k"])
    if "report" in os.path.basename(str(args[0])):
        stage("report")


sys.addaudithook(audited)


@hookimpl
def genkit_dataset():
    return {"staged": lazy("probe_staged.parts:Data", "The ring.")}


@hookimpl
def genkit_loss():
    return {"staged": lazy("probe_staged.parts:Loss", "Squared l2.")}


@hookimpl
def genkit_features():
    return {"staged": lazy("probe_staged.parts:Features", "The pixels.")}


@hookimpl
def genkit_run_start(folder, recipe, key):
    stage("start")


@hookimpl
def genkit_step_end(state, figures, key):
    reached["k"] = state.k
    stage("step", state.k)
