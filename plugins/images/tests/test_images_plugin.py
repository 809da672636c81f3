"""Claims about what the plugin offers."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import attrs
import pytest

import genkit_images
from genkit.hookspecs import API

OFFERS = genkit_images.genkit_dataset()


@pytest.mark.parametrize("name", OFFERS)
def test_summaries_are_the_first_line_of_the_docstring(name):
    module, _, cls = OFFERS[name].target.partition(":")
    component = getattr(importlib.import_module(module), cls)
    assert inspect.getdoc(component).splitlines()[0] == OFFERS[name].summary


@pytest.mark.parametrize("name", OFFERS)
def test_every_setting_has_a_line_of_help(name):
    module, _, cls = OFFERS[name].target.partition(":")
    for field in attrs.fields(getattr(importlib.import_module(module), cls)):
        assert field.metadata["help"], field.name


@pytest.mark.parametrize("name", ["image-folder", "hdf5"])
def test_where_the_data_lie_is_no_part_of_their_identity(name):
    module, _, cls = OFFERS[name].target.partition(":")
    fields = attrs.fields_dict(getattr(importlib.import_module(module), cls))
    aside = {n for n, f in fields.items() if not f.metadata["identity"]}
    assert aside == {"path", "max_gib", "workers"}
    assert fields["path"].type in ("Path", Path)


def test_importing_the_plugin_imports_neither_torch_nor_its_components():
    code = (
        "import sys, genkit_images; genkit_images.genkit_dataset();"
        "print([m for m in ('torch', 'numpy', 'PIL', 'h5py', 'genkit_images.toys') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_plugin_is_made_for_this_api():
    assert genkit_images.GENKIT_API == API


def test_the_package_carries_the_digits_and_their_licence():
    folder = Path(genkit_images.__file__).parent
    project = tomllib.loads((folder.parent / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["genkit"] == {"images": "genkit_images"}
    for name in project["tool"]["setuptools"]["package-data"]["genkit_images"]:
        assert (folder / name).stat().st_size > 0
