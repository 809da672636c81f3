"""The launcher."""

import subprocess
import sys

import attrs


@attrs.frozen(kw_only=True)
class Processes:
    """A process for each job, two at a time."""

    def build(self, setup):
        return Started()


class Started:
    slots = 2
    pause = 0.0

    def __init__(self):
        self.processes = {}

    def submit(self, name, jobs):
        for i, job in enumerate(jobs):
            job.log.parent.mkdir(parents=True, exist_ok=True)
            with job.log.open("a") as log:
                argv = [sys.executable, "-m", "genkit", *job.argv]
                self.processes[f"{name}.{i}"] = subprocess.Popen(argv, stdout=log, stderr=log)
        return [f"{name}.{i}" for i in range(len(jobs))]

    def poll(self, handles):
        known = {handle: self.processes[handle].poll() for handle in handles if handle in self.processes}
        return {handle: "runs" if code is None else code for handle, code in known.items()}

    def cancel(self, handles):
        for handle in handles:
            self.processes[handle].terminate()

    def close(self):
        pass
