"""A release works where nothing of the checkout is: all is built, checked, installed by name, and does the quick start.

So do the plugins of `examples/`, which are made with public means alone: each passes its own tests from its wheel.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(path.parent for path in ROOT.glob("examples/*/pyproject.toml"))


def script():
    spec = importlib.util.spec_from_file_location("release", ROOT / "release.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def project(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A package index in a folder, of all that is ours and of the examples."""
    dist = tmp_path_factory.mktemp("release") / "dist"
    release = script()
    release.release(dist, [*release.OURS, *EXAMPLES])
    for wheel in dist.glob("*.whl"):
        page = dist / "simple" / wheel.name.partition("-")[0].replace("_", "-") / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text(f'<a href="{wheel.as_uri()}">{wheel.name}</a>')
    return dist


@pytest.fixture(scope="module")
def fresh(index, tmp_path_factory):
    """`fresh(words)`: python in an environment that has of ours only what was installed by name from the index.

    What others made, torch above all, is that of this environment.
    """
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder / "env", symlinks=True)
    others = folder / "others"
    others.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not re.match(r"_*(genkit|editable)", path.name):
            (others / path.name).symlink_to(path)
    (site,) = folder.glob("env/lib/python*/site-packages")
    (site / "others.pth").write_text(f"{others}\n")

    def python(*words, cwd=folder, **environment):
        env = {**os.environ, "OMP_NUM_THREADS": "1", "GENKIT_CACHE": str(folder / "cache"), **environment}
        words = [folder / "env/bin/python", "-m", *words]
        done = subprocess.run(words, capture_output=True, text=True, env=env, cwd=cwd, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    names = ["genkit-lab[all]", *(project(example)["name"] for example in EXAMPLES)]
    python("pip", "install", "-q", "--index-url", (index / "simple").as_uri(), *names)
    return python


def test_all_distributions_have_one_version_and_all_of_them():
    release = script()
    versions = release.versions()
    assert len(set(versions.values())) == 1, versions
    names = {project(folder)["name"] for folder in release.OURS[1:]}
    assert set(project(ROOT)["optional-dependencies"]["all"]) == names and len(names) > 20


def test_each_has_a_source_archive_and_a_wheel_with_a_licence(index):
    wheels = {path.name.partition("-")[0] for path in index.glob("*.whl")}
    archives = {path.name.rpartition("-")[0] for path in index.glob("*.tar.gz")}
    assert wheels == archives and len(wheels) == len(script().OURS) + len(EXAMPLES)
    for wheel in index.glob("*.whl"):
        assert any(name.endswith("/LICENSE") for name in zipfile.ZipFile(wheel).namelist()), wheel.name


def test_the_quick_start_runs_where_all_was_installed_by_name(fresh, tmp_path):
    few = ["train.steps=20", "evaluate.samples=300", "train.sample_every_steps=0", "metrics.pr=false"]
    assert "2 steps" in fresh("genkit", "run", "ict_digits", *few, cwd=tmp_path)
    assert list(tmp_path.glob("runs/*/report.html"))
    assert str(ROOT) not in fresh("pip", "freeze")
    plugins = fresh("genkit", "plugins", "list")
    assert "failed" not in plugins and "incompatible" not in plugins
    assert len(re.findall(" loaded", plugins)) == len(script().OURS) - 1 + len(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_passes_its_own_tests_from_its_wheel(example, fresh, tmp_path):
    shutil.copytree(example / "tests", tmp_path / "tests")
    fresh("pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=tmp_path)
    assert "broken" not in fresh("genkit", "plugins", "check", project(example)["name"], cwd=tmp_path)


def test_examples_use_what_is_public_alone():
    public = "genkit genkit.data genkit.errors genkit.hookspecs genkit.keys genkit.kinds genkit.testing".split()
    assert len(EXAMPLES) == 3
    for path in (path for example in EXAMPLES for path in example.rglob("*.py")):
        assert set(re.findall(r"^\s*(?:from|import) (genkit\S*)", path.read_text(), re.MULTILINE)) <= {*public}, path
