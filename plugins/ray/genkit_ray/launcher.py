"""Jobs by Ray Jobs: submitted under names of our own, looked at by one question, stopped one by one."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from genkit.errors import GenkitError
from genkit.kinds import Setup, setting
from genkit_ray.rest import Refused, call

_v = attrs.validators
PREEMPTED = 75  # what genkit leaves with that can go on
STATES: dict[str, int | str] = {"PENDING": "waits", "RUNNING": "runs", "SUCCEEDED": 0, "STOPPED": PREEMPTED}
NEVER = (  # why a job never began, where no other try would begin either
    "RUNTIME_ENV_SETUP_FAILURE",
    "JOB_SUPERVISOR_ACTOR_START_FAILURE",
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE",
    "JOB_ENTRYPOINT_COMMAND_START_ERROR",
)
SETTINGS = "see its settings: genkit components show ray"
GIVEN = ("GENKIT_", "OMP_NUM_THREADS")  # what of this process's environment is for its jobs, too


@attrs.frozen(kw_only=True)
class Ray:
    """Jobs of a Ray cluster."""

    address: str = setting("", "of the dashboard; else $RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265")
    gpus: float = setting(1.0, "cards of a job, or the part of one, unless --device cpu is given", check=_v.ge(0))
    cpus: float = setting(0.0, "CPUs of a job; 0: one, and one for each process that reads data", check=_v.ge(0))
    memory: float = setting(0.0, "memory of a job in GiB; 0: not asked for", check=_v.ge(0))
    resources: tuple[str, ...] = setting((), 'what else a job needs: ["A100=1"]')
    before: tuple[str, ...] = setting((), 'lines of shell that come first: ["module load cuda"]')
    command: str = setting("", "what runs genkit on a node; else this interpreter, by its path")
    jobs: int = setting(0, "jobs at a time; 0: as many as the cluster has room for now", check=_v.ge(0))

    def build(self, setup: Setup) -> Cluster:
        address = self.address or os.environ.get("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265")
        if not address.startswith(("http://", "https://")):
            raise GenkitError("launcher ray", f"{address!r} is no dashboard", "give http://HOST:8265")
        return Cluster(self, address)


@attrs.define(eq=False)
class Cluster:
    """The cluster behind a dashboard; the handle of a job is its submission id."""

    settings: Ray
    address: str
    found: int = 0
    pause = 2.0
    shares = True

    @property
    def slots(self) -> int:
        """As set, or as many jobs as the nodes that are there have CPUs and cards for."""
        if not (self.settings.jobs or self.found):
            nodes = call(self.address, "/api/v0/nodes?limit=10000")["data"]["result"]["result"]
            room = [self._room(node["resources_total"]) for node in nodes if node["state"] == "ALIVE"]
            self.found = max(1, sum(room))
        return self.settings.jobs or self.found

    def _room(self, has: Mapping[str, float]) -> int:
        cpus, gpus = has.get("CPU", 0) // (self.settings.cpus or 1), has.get("GPU", 0)
        return int(min(cpus, gpus // self.settings.gpus) if gpus and self.settings.gpus else cpus)

    def submit(self, name: str, jobs: Sequence[Any]) -> list[str]:
        handles = [f"{name}-{i}" for i in range(len(jobs))]
        for handle, job in zip(handles, jobs, strict=True):
            job.log.parent.mkdir(parents=True, exist_ok=True)
            try:
                call(self.address, "/api/jobs/", {"submission_id": handle, **self._asked(job)})
            except Refused as refusal:
                if refusal.status < 500:
                    raise GenkitError(
                        "launcher ray", str(refusal), "see its settings: genkit components show ray"
                    ) from None
                if "already exists" not in str(refusal):  # of a submission whose answer was not heard
                    raise
        return handles

    def _asked(self, job: Any) -> dict[str, Any]:
        given = self.settings
        genkit = given.command or f"{shlex.quote(sys.executable)} -m genkit"
        run = f"exec {genkit} {shlex.join(job.argv)} >> {shlex.quote(str(job.log))} 2>&1"
        lines = [f"cd {shlex.quote(os.getcwd())} || exit 1", *given.before, run]
        told = {name: value for name, value in os.environ.items() if name.startswith(GIVEN)}
        return {
            "entrypoint": "\n".join(lines),
            "entrypoint_num_cpus": given.cpus or job.cpus,
            "entrypoint_num_gpus": given.gpus * job.cards,
            "entrypoint_memory": int(given.memory * 2**30) or None,
            "entrypoint_resources": {
                kind: float(number or 1) for kind, _, number in (one.partition("=") for one in given.resources)
            },
            "runtime_env": {"env_vars": told},
            "metadata": {"log": str(job.log.absolute())},
        }

    def poll(self, handles: Sequence[str]) -> dict[str, int | str]:
        found = {job["submission_id"]: job for job in call(self.address, "/api/jobs/")}
        return {handle: _how(found[handle]) for handle in handles if handle in found}

    def cancel(self, handles: Sequence[str]) -> None:
        """SIGTERM; and SIGKILL after RAY_JOB_STOP_WAIT_TIME_S, 3 s where the cluster was started without it.

        Ray tells a job that waits as soon as it begins.
        """
        for handle in handles:
            try:
                call(self.address, f"/api/jobs/{handle}/stop", {})
            except Refused as refusal:
                if refusal.status != 404:
                    raise

    def close(self) -> None:
        """Jobs run on: whoever comes next finds them by their handles."""


def _how(job: Mapping[str, Any]) -> int | str:
    """Where a job is, by Ray's words; one that failed without an exit code was ended by its machine."""
    if job["status"] != "FAILED":
        return STATES[job["status"]]
    if job["driver_exit_code"] is not None:
        return int(job["driver_exit_code"])
    if job.get("error_type") not in NEVER:
        return PREEMPTED
    with suppress(OSError), Path(job["metadata"]["log"]).open("a") as log:  # where a study looks for the reason
        log.write(" ".join(job["message"].split()) + "\n")
    return 1
