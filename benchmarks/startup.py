"""What it costs to look around: CPU milliseconds over an interpreter that does nothing.

    python benchmarks/startup.py

Each command in turn with `python -c pass`, twelve times; the smallest difference of each is printed.
"""

from __future__ import annotations

import resource
import subprocess
import sys

COMMANDS = {"--help": ["--help"], "--version": ["--version"], "plugins list": ["plugins", "list"],
            "components list": ["components", "list"], "recipe check": ["recipe", "check", "ict_digits"]}  # fmt: skip


def milliseconds(*command: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    python = sys.executable
    floor = min(milliseconds(python, "-c", "pass") for _ in range(12))
    print(f"python -c pass: {floor:.0f} ms")
    for name, argv in COMMANDS.items():
        least = min(milliseconds(python, "-m", "genkit", *argv) for _ in range(12))
        print(f"genkit {name}: {least - floor:+.0f} ms")


main()
