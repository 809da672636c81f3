"""The launcher."""

import subprocess
import sys

import attrs


@attrs.frozen(kw_only=True)
class Processes:
    """A process for each job, two at a time."""

    slots = 2

    def submit(self, job):
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("a") as log:
            return subprocess.Popen([sys.executable, "-m", "genkit", *job.argv], stdout=log, stderr=log)

    def poll(self, handle):
        return handle.poll()

    def cancel(self, handle):
        handle.terminate()
