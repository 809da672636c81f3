import subprocess
import sys

import attrs

from genkit.kinds import setting


@attrs.frozen(kw_only=True)
class Api1Launcher:
    """Runs jobs on this machine, a process for each."""

    slots: int = setting(2, "jobs at a time", check=attrs.validators.ge(1))

    def build(self, setup):
        return Api1LauncherProcesses(slots=self.slots)


@attrs.frozen(kw_only=True, eq=False)
class Api1LauncherProcesses:
    slots: int
    started: dict = attrs.field(factory=dict)

    def submit(self, name, jobs):
        for i, job in enumerate(jobs):
            if f"{name}.{i}" not in self.started:
                job.log.parent.mkdir(parents=True, exist_ok=True)
                with job.log.open("ab") as log:
                    words = [sys.executable, "-m", "genkit", *job.argv]
                    self.started[f"{name}.{i}"] = subprocess.Popen(words, stdout=log, stderr=log)
        return [f"{name}.{i}" for i in range(len(jobs))]

    def poll(self, handles):
        codes = {handle: self.started[handle].poll() for handle in handles if handle in self.started}
        return {handle: "runs" if code is None else code for handle, code in codes.items()}

    def cancel(self, handles):
        for handle in handles:
            self.started[handle].terminate()

    def close(self):
        self.cancel(self.started)
        for process in self.started.values():
            process.wait()
