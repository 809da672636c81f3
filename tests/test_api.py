"""What was made for API 1 works: a plugin of every kind, as `genkit plugins new` wrote it for 0.1; nobody changes it.

A change that this plugin does not survive breaks the plugins of others: docs/publishing.md says what may change.
"""

import hashlib
import re
from pathlib import Path

import pytest

import genkit
from genkit.kinds import KINDS
from genkit.testing import laws, present, provide

FOLDER = Path(__file__).parent / "api_1"
SOURCES = sorted(path for path in FOLDER.rglob("*") if path.suffix in (".py", ".toml"))
RECIPES = [path.stem for path in SOURCES if path.suffix == ".toml"]


@pytest.fixture
def installed(tmp_path):
    with present(FOLDER, provide(tmp_path / "site", "api-1", "genkit_api_1")):
        yield


def test_the_plugin_is_as_it_was():
    digest = hashlib.sha256()
    for path in SOURCES:
        digest.update(path.relative_to(FOLDER).as_posix().encode() + path.read_bytes())
    assert digest.hexdigest()[:16] == "af216b8397c6f5f2"


def test_it_has_a_component_of_each_kind_of_api_1():
    offered = re.findall(r"^def genkit_(\w+)", (FOLDER / "genkit_api_1/__init__.py").read_text(), re.MULTILINE)
    assert {*offered} - {"recipes"} <= KINDS.keys() and len(offered) == 21


@pytest.mark.usefixtures("installed")
def test_its_components_load_and_keep_the_laws_of_today():
    mine = [info for info in genkit.components().values() if info.distribution == "genkit-probe-api-1"]
    assert len(mine) == 20
    for info in mine:
        laws.check(genkit.component(info.kind, info.name))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("recipe", RECIPES)
def test_its_recipes_train(recipe, tiny_run):
    assert tiny_run(recipe).figures
