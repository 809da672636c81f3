"""What it costs to look around: CPU milliseconds over an interpreter that does nothing.

    python benchmarks/startup.py

Each command in turn with `python -c pass`, twelve times; the smallest difference of each is printed. `--help` is asked
again with 50 more plugins, of ten components each.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

COMMANDS = {"--help": ["--help"], "--version": ["--version"], "plugins list": ["plugins", "list"],
            "components list": ["components", "list"], "recipe check": ["recipe", "check", "ict_digits"]}  # fmt: skip


ENTRY = """from genkit.hookspecs import hookimpl, lazy
GENKIT_API = 1
@hookimpl
def genkit_loss():
    return {{f"dummy-{name}-{{i}}": lazy("genkit_{name}.losses:Dummy", "A dummy.") for i in range(10)}}
"""


def plugins(folder: Path, count: int = 50) -> None:
    """Write plugins of ten components each, as pip would leave them."""
    for i in range(count):
        name = f"dummy{i}"
        (folder / f"genkit_{name}").mkdir()
        (folder / f"genkit_{name}/__init__.py").write_text(ENTRY.format(name=name))
        info = folder / f"genkit_lab_{name}-0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: genkit-lab-{name}\nVersion: 0.1\n")
        (info / "entry_points.txt").write_text(f"[genkit]\n{name} = genkit_{name}\n")


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
    with tempfile.TemporaryDirectory() as folder:
        plugins(Path(folder))
        os.environ["PYTHONPATH"] = folder
        least = min(milliseconds(python, "-m", "genkit", "--help") for _ in range(12))
        print(f"genkit --help, 50 more plugins: {least - floor:+.0f} ms")


main()
