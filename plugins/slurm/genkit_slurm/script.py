"""What a node runs: a shell script that becomes the job, so that signals reach it and no shell beside it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Any

MEET = (
    'export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"',  # which srun itself does not take over
    'export MASTER_ADDR="$(hostname)"',  # the script runs on the first node, and so does rank 0
    "export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))",
)
TELLING = (  # srun passes SIGUSR1 on, and takes SIGTERM for SIGKILL; a signal also ends a wait
    "trap 'kill -USR1 $!' TERM",
    "while wait $!; kill -0 $! 2> /dev/null; do :; done",
    "wait $!; exit $?",
)
RANKED = "export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS; exec"


def script(jobs: Sequence[Any], before: Sequence[str] = (), command: str = "") -> str:
    """The script of an array, whose task i is the i-th job; all are of as many nodes and processes.

    On several nodes srun starts the processes, and not torchrun: that ends in 1, whatever they end with, and kills
    those that take more than 30 seconds to save.

    Args:
        before: Lines of shell, such as `module load cuda`.
        command: What runs genkit on a node, in place of this process's interpreter: of a container, say.
    """
    genkit = command or f"{shlex.quote(sys.executable)} -m genkit"
    tasks = [f"{i}) log={shlex.quote(str(job.log))}; set -- {shlex.join(job.argv)};;" for i, job in enumerate(jobs)]
    lines = ["#!/bin/bash", 'case "$SLURM_ARRAY_TASK_ID" in', *tasks, "esac", 'exec >> "$log" 2>&1', *before]
    if jobs[0].nodes > 1:
        ranked = shlex.quote(f'{RANKED} {genkit} "$@"')
        return "\n".join([*lines, *MEET, f'srun bash -c {ranked} genkit "$@" &', *TELLING, ""])
    return "\n".join([*lines, f'exec {genkit} "$@"', ""])
