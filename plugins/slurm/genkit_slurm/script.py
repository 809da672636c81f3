"""What a node runs: a shell script that becomes the job, so that signals reach it and no shell beside it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Any


def script(jobs: Sequence[Any], before: Sequence[str] = (), command: str = "") -> str:
    """The script of an array, whose task i is the i-th job.

    Args:
        before: Lines of shell, such as `module load cuda`.
        command: What runs genkit, in place of this process's interpreter: of a container, say.
    """
    genkit = command or f"{shlex.quote(sys.executable)} -m genkit"
    tasks = [f"{i}) log={shlex.quote(str(job.log))}; set -- {shlex.join(job.argv)};;" for i, job in enumerate(jobs)]
    lines = ["#!/bin/bash", 'case "$SLURM_ARRAY_TASK_ID" in', *tasks, "esac", 'exec >> "$log" 2>&1', *before]
    return "\n".join([*lines, f'exec {genkit} "$@"', ""])
