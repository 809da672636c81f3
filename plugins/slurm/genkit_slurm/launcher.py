"""Jobs by sbatch, squeue and scancel."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

import attrs

from genkit.errors import GenkitError, PluginError
from genkit.kinds import Setup, setting
from genkit_slurm.script import script

_v = attrs.validators
PREEMPTED = 75  # what genkit leaves with that can go on
ALIKE = attrgetter("cards", "cpus", "tryout", "nodes", "processes")  # what the jobs of an array have in common
WAITS = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
RUNS = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
# What no further try mends; all else, such as "Socket timed out on send/recv operation", may be gone in a minute.
FINAL = re.compile(
    r"invalid (?!job id)|unrecognized|not permitted|unknown|denied|not available|cannot be satisfied", re.I
)


@attrs.frozen(kw_only=True)
class Slurm:
    """Jobs of a SLURM cluster, as arrays."""

    partition: str = setting("", "the partition; else the cluster's default")
    account: str = setting("", "the account that pays")
    qos: str = setting("", "quality of service")
    time: str = setting("", "the limit of a job's time, \"12:00:00\"; else the partition's")
    tryout_time: str = setting("", "that of a try-out, which takes a minute; else as `time`")
    gpus: int = setting(1, "cards of a job, unless --device cpu is given", check=_v.ge(0))
    gres: str = setting("gpu", 'what cards are called: "gpu", "gpu:a100"')
    cpus: int = setting(0, "CPUs of a job; 0: one, and one for each process that reads data", check=_v.ge(0))
    memory: str = setting("", 'memory of a job, "32G"; else the cluster\'s default')
    constraint: str = setting("", "features that nodes must have")
    options: tuple[str, ...] = setting((), 'further options of sbatch: ["--exclude=node7"]')
    before: tuple[str, ...] = setting((), 'lines of shell that come first: ["module load cuda"]')
    command: str = setting("", 'what runs genkit on a node: "apptainer exec --nv genkit.sif python -m genkit"')
    jobs: int = setting(100, "jobs of an array that run at a time", check=_v.ge(1))
    room: int = setting(1000, "jobs that run or wait; one array has no more", check=_v.ge(1))
    grace: int = setting(120, "seconds before its time is up in which a job saves", check=_v.ge(1))

    def build(self, setup: Setup) -> Cluster:
        return Cluster(self)


@attrs.define(eq=False)
class Cluster:
    """The cluster that sbatch knows here; the handle of a job is `ARRAY_TASK`."""

    settings: Slurm
    pause = 2.0
    spans = True

    @property
    def slots(self) -> int:
        return self.settings.jobs

    @property
    def room(self) -> int:
        return self.settings.room

    def submit(self, name: str, jobs: Sequence[Any]) -> list[str]:
        """An array for jobs that need the same, in the order in which they are given."""
        handles: list[str] = []
        for i, (_, group) in enumerate(groupby(jobs, key=ALIKE)):
            some = list(group)
            array = self._submitted(f"{name}-{i}") or self._submit(f"{name}-{i}", some)
            handles += [f"{array}_{task}" for task in range(len(some))]
        return handles

    def _submitted(self, name: str) -> str:
        """The array of this name, if there is one."""
        found = _call("squeue", "--noheader", "--all", "--states=all", f"--name={name}", "--format=%F").split()
        return found[0] if found else ""

    def _submit(self, name: str, jobs: Sequence[Any]) -> str:
        for job in jobs:
            job.log.parent.mkdir(parents=True, exist_ok=True)
        text = script(jobs, self.settings.before, self.settings.command)
        return _call("sbatch", *self._options(name, jobs), text=text).strip().partition(";")[0]

    def _options(self, name: str, jobs: Sequence[Any]) -> list[str]:
        given, job = self.settings, jobs[0]
        named = {
            "partition": given.partition, "account": given.account, "qos": given.qos, "constraint": given.constraint,
            "time": (job.tryout and given.tryout_time) or given.time, "mem": given.memory,
            "cpus-per-task": str(given.cpus or job.cpus),
            "gres": f"{given.gres}:{max(given.gpus, int(job.cards))}" if job.cards and given.gpus else "",
        }  # fmt: skip
        return [
            "--parsable", f"--job-name={name}", f"--array=0-{len(jobs) - 1}%{given.jobs}", f"--chdir={os.getcwd()}",
            f"--nodes={job.nodes}", f"--ntasks-per-node={job.processes}",
            "--requeue", f"--signal=B:TERM@{given.grace}", "--output=/dev/null",
            *(f"--{option}={value}" for option, value in named.items() if value), *given.options,
        ]  # fmt: skip

    def poll(self, handles: Sequence[str]) -> dict[str, int | str]:
        """By one squeue, which knows jobs for some minutes after their end."""
        arrays = ",".join(sorted({handle.partition("_")[0] for handle in handles}))
        try:
            told = _call("squeue", "--noheader", "--array", "--all", "--states=all", f"--jobs={arrays}", FORMAT)
        except RuntimeError as error:
            if "invalid job id" not in str(error).lower():  # of the only one that was asked for
                raise
            told = ""
        lines = map(str.split, told.splitlines())
        return {f"{array}_{task}": _how(state, code) for array, task, state, code in lines}

    def cancel(self, handles: Sequence[str]) -> None:
        """What runs is told by SIGTERM alone, so that it has the time that it takes to save."""
        for some in _in_parts(handles):
            _call("scancel", "--batch", "--signal=TERM", "--state=RUNNING", *some)
            _call("scancel", "--state=PENDING", *some)

    def close(self) -> None:
        """Jobs run on: whoever comes next finds them by their handles."""


def _in_parts(handles: Sequence[str], size: int = 500) -> Iterable[Sequence[str]]:
    return (handles[i : i + size] for i in range(0, len(handles), size))


FORMAT = "--Format=ArrayJobID:20,ArrayTaskID:20,State:20,exit_code:20"


def _how(state: str, code: str) -> int | str:
    """Where a job is, by squeue's words for its state and its exit code, "code:signal" or the status of wait."""
    if state in WAITS:
        return "waits"
    if state in RUNS:
        return "runs"
    if ":" in code:
        status, number = map(int, code.split(":"))
        told = -number or status
    else:
        told = os.waitstatus_to_exitcode(int(code))
    if state in ("COMPLETED", "FAILED"):
        return told
    return -9 if state == "OUT_OF_MEMORY" else told or PREEMPTED


def _call(*words: str, text: str = "") -> str:
    """What a command of SLURM says, in a session of its own, since Ctrl-C is not for it.

    Raises:
        PluginError: It is not here.
        GenkitError: SLURM refuses what it is asked.
        RuntimeError: It does not answer, or not now.
    """
    environment: Mapping[str, str] = {
        name: value for name, value in os.environ.items() if name == "SLURM_CONF" or not name.startswith("SLURM_")
    }  # those of a job that submits would become those of its jobs
    try:
        done = subprocess.run(
            words,
            check=False,
            input=text,
            capture_output=True,
            text=True,
            env=environment,
            start_new_session=True,
            timeout=120,
        )
    except FileNotFoundError as error:
        raise PluginError("launcher slurm", f"no {words[0]} here", "submit where SLURM's commands are") from error
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"{words[0]} ended with {done.returncode}"
        if "configuration source" in said:
            hint = "submit on a machine of the cluster, or set SLURM_CONF"
            raise GenkitError("launcher slurm", f"{words[0]} finds no configuration of a cluster here", hint)
        if words[0] == "sbatch" and FINAL.search(said):
            raise GenkitError("launcher slurm", said, "see its settings: genkit components show slurm")
        raise RuntimeError(said)
    return done.stdout
