"""What is published works outside the checkout: a plugin's wheel, and the core's with its recipes."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent


def build(project, to):
    """A wheel of a copy of the project, so that nothing is built into the checkout."""
    copy = shutil.copytree(project, to / "source", ignore=shutil.ignore_patterns(".*", "build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(to), str(copy)]
    subprocess.run(pip, check=True, capture_output=True)
    return next(to.glob("*.whl"))


def test_a_plugin_installed_from_its_wheel_is_found_checked_and_used(tmp_path):
    wheel = build(HERE / "wheel", tmp_path)
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)

    def genkit(*argv):
        command = [sys.executable, "-m", "genkit", *argv]
        env = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=env, cwd=tmp_path).stdout

    assert "genkit-cauchy" in genkit("plugins", "list")
    assert "c = 0.1" in genkit("components", "show", "cauchy")
    few = ["train.steps=30", "evaluate.samples=300"]
    done = genkit("run", "ict_ring", "loss.use=cauchy", "loss.c=0.2", *few, "--json")
    folder = tmp_path / json.loads(done)["folder"]
    assert 'use = "cauchy"' in (folder / "recipe.toml").read_text()
    assert json.loads((folder / "lock.json").read_text())["plugins"]["genkit-cauchy"] == "0.2"
    laws = "import genkit; from genkit.testing import laws; laws.check(genkit.component('loss', 'cauchy'))"
    subprocess.run([sys.executable, "-c", laws], check=True, env={**os.environ, "PYTHONPATH": str(site)}, cwd=tmp_path)


def test_the_core_wheel_carries_its_recipes_and_its_types(tmp_path):
    names = set(zipfile.ZipFile(build(HERE.parent, tmp_path)).namelist())
    source, genkit = HERE.parent / "recipes", HERE.parent / "genkit"
    recipes = {f"genkit/recipes/{path.relative_to(source)}" for path in source.rglob("*.toml")}
    assert recipes
    code = {f"genkit/{p.relative_to(genkit)}" for p in genkit.rglob("*.py")}
    assert recipes | code | {"genkit/py.typed", "genkit/kernel/index.json"} <= names
