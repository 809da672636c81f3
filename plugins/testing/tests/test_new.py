"""A new plugin installs, keeps its laws and passes its own tests at once; a spoilt one is told what is wrong."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from genkit.kinds import KINDS

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]


def ran(*words, code=0):
    """What a command says, with what was installed into `site` on the path."""
    env = {**os.environ, "PYTHONPATH": str(Path("site").absolute()), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def installed(folder):
    """A plugin's folder installed where `ran` finds it, from its wheel."""
    target = ["--no-build-isolation", "--upgrade", "--target", "site", folder]
    subprocess.run([*PIP, *target], check=True, capture_output=True)


def test_a_plugin_of_every_kind_installs_and_passes_its_tests(call):
    out, _ = call("plugins", "new", "tanh-x", "--kind", ",".join(KINDS))
    installed("./genkit-lab-tanh-x")
    assert "genkit run tanh_x_loss" in out
    recipes = list(Path("site/genkit_tanh_x/recipes").glob("*.toml"))
    assert recipes and all(f'name = "{path.stem}"' in path.read_text() for path in recipes)
    told = ran("pytest", "-q", "--color=no", "genkit-lab-tanh-x")
    assert re.search(r"^\d+ passed", told, re.MULTILINE), told  # and none skipped
    rows = json.loads(ran("genkit", "plugins", "check", "./genkit-lab-tanh-x", "--json"))
    assert {row["state"] for row in rows} == {"kept"}
    assert {f"{kind} tanh-x" for kind in KINDS} <= {row["law"] for row in rows}
    assert "genkit_tanh_x" not in sys.modules


def test_what_is_published_names_all_that_it_needs(call):
    call("plugins", "new", "tanh-x", "--kind", "objective")
    installed("./genkit-lab-tanh-x")
    needed = next(importlib.metadata.distributions(name="genkit-lab-tanh-x", path=["site"])).requires
    ours = {re.match(r"[\w-]+", one)[0] for one in needed if "extra" not in one}
    assert {"genkit-lab", "genkit-lab-diffusion", "genkit-lab-ict", "genkit-lab-unets", "attrs"} <= ours
    files = {str(path.relative_to("site")) for path in Path("site").rglob("*")}
    assert "genkit_tanh_x/recipes/tanh_x_objective.toml" in files


def test_the_check_of_a_spoilt_plugin_says_what_is_wrong(call):
    call("plugins", "new", "tanh-x", "--kind", "loss,teacher")
    package = Path("genkit-lab-tanh-x/genkit_tanh_x")
    loss, entry, recipe = package / "loss.py", package / "__init__.py", package / "recipes/tanh_x_loss.toml"
    loss.write_text(loss.read_text().replace(".mean(1)", ""))
    entry.write_text(f"import torch\n{entry.read_text()}")
    recipe.write_text(recipe.read_text().replace('tanh-x"', 'tahn-x"'))
    project = Path("genkit-lab-tanh-x/pyproject.toml")
    project.write_text(
        re.sub(r'readme = .*\nlicense = "MIT"\n', "", project.read_text()).replace('"torch"', '"torch==2"')
    )
    installed("./genkit-lab-tanh-x")
    rows = {row["law"]: row for row in json.loads(ran("genkit", "plugins", "check", "tanh-x", "--json", code=1))}
    assert rows["loads"]["state"] == "kept"
    for law, words in {
        "starts light": "importing genkit_tanh_x imports numpy torch",
        "loss tanh-x": "one value per sample",
        "recipe tanh_x_loss": "did you mean 'tanh-x'",
        "can be published": "[project] license, [project] readme; owed",
    }.items():
        assert rows[law]["state"] == "broken" and words in rows[law]["why"], rows[law]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["Tanh"], "names no plugin"),
        (["tanh", "--kind", "lose"], "did you mean 'loss'"),
        (["l2"], "there is a loss 'l2' already"),
        (["ict", "--kind", "ema"], "there is a package genkit_ict already"),
    ],
)
def test_a_name_that_cannot_be_is_refused(call, words, told):
    _, err = call("plugins", "new", *words, code=2)
    assert told in err and not list(Path().glob("genkit-lab-*"))


def test_nothing_is_written_over(call):
    call("plugins", "new", "tanh")
    _, err = call("plugins", "new", "tanh", code=2)
    assert "there is a folder genkit-lab-tanh already" in err


def test_a_folder_that_is_not_installed_is_told_how(call):
    call("plugins", "new", "tanh")
    _, err = call("plugins", "check", "./genkit-lab-tanh", code=3)
    assert "genkit-lab-tanh is not installed" in err and "pip install -e" in err


def test_a_small_run_is_small(tiny_run, image_spec):
    assert image_spec.shape == (3, 8, 8)
    run = tiny_run("ict_ring", swaps=("loss=l2",))
    assert run.figures and run.folder.parent == Path().absolute()
