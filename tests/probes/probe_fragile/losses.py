"""The loss."""

import os
import signal
from pathlib import Path

import attrs

from genkit.kinds import setting


@attrs.frozen(kw_only=True)
class Fragile:
    """Squared l2, until there is trouble."""

    at: int = setting(10, "the step of the trouble")

    def build(self, context):
        def d(x, y, at=None):
            trouble = Path("trouble")
            if at is not None and at.k == self.at and trouble.is_file():
                _meet(trouble.read_text())
            return (x - y).square().flatten(1).mean(1)

        return d


def _meet(trouble):
    if trouble == "crash":
        raise RuntimeError("the loss has broken")
    if trouble == "memory":
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
    if trouble == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if trouble.startswith("stop"):  # whoever asked for the study; wait until that one has told this run
        heard, wake = os.pipe()
        os.set_blocking(wake, False)
        before = signal.set_wakeup_fd(wake)
        os.kill(int(trouble.split()[1]), signal.SIGTERM)
        os.read(heard, 1)
        signal.set_wakeup_fd(before)
