"""Sends its process a signal at the n-th import once torch is being imported: $EARLY is "n SIGNAL"."""

import os
import signal
import sys

seen = {"imports": 0, "torch": False}
AT, NAME = os.environ.get("EARLY", "0 SIGTERM").split()


def audited(event, args):
    if event != "import":
        return
    seen["torch"] |= args[0] == "torch"
    seen["imports"] += seen["torch"]
    if seen["torch"] and seen["imports"] == int(AT):
        os.kill(os.getpid(), getattr(signal, NAME))


sys.addaudithook(audited)
