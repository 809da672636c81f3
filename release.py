"""Every distribution, built as it is published: a source archive each, the wheel that is made of it, and their check.

    python release.py [FOLDER]

writes into FOLDER, `dist` if none is given, which must not be there. Nothing is built into the checkout, and nothing is
uploaded.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent
OURS = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]
LEFT_OUT = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")


def versions() -> dict[str, str]:
    """The version of each distribution, and that which genkit tells."""
    projects = [tomllib.loads((path / "pyproject.toml").read_text("utf-8"))["project"] for path in OURS]
    told = re.search(r'^__version__ = "(.+)"$', (ROOT / "genkit/__init__.py").read_text("utf-8"), re.MULTILINE)
    return {project["name"]: project["version"] for project in projects} | {"genkit --version": told[1] if told else ""}


def build(project: Path, to: Path) -> None:
    """Write a project's source archive, and the wheel that is made of it."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = shutil.copytree(project, Path(temporary, project.name), ignore=LEFT_OUT)
        if not (copy / "LICENSE").exists():
            shutil.copy(ROOT / "LICENSE", copy)  # of the whole repository: each distribution carries it
        words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(to), str(copy)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{project}: python -m build fails\n{done.stdout}{done.stderr}")


def release(to: Path, projects: Iterable[Path] = OURS) -> None:
    """Build projects into a folder, which is made, and check what an index would show of them."""
    to.mkdir(parents=True)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda project: build(project, to), projects))
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *sorted(map(str, to.iterdir()))], check=True)


if __name__ == "__main__":
    if len(set(versions().values())) != 1:
        raise SystemExit(f"versions differ: {versions()}")
    release(Path(*sys.argv[1:2] or ["dist"]).absolute())
