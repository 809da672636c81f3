"""The notebook of the documentation is the one that its script makes, and runs in a kernel as it stands."""

import importlib.util
from pathlib import Path

import nbformat
import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("notebook_of_docs", DOCS / "notebook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_notebook_is_that_of_its_script_and_runs(script):
    kept = nbformat.read(DOCS / "notebook.ipynb", as_version=4)
    assert [cell.source for cell in kept.cells] == [cell.source for cell in script.made().cells]
    done = script.executed()  # a cell that raises ends it
    shown = [[sorted(o.get("data", {})) for o in cell.get("outputs", [])] for cell in done.cells]
    assert shown == [[sorted(o.get("data", {})) for o in cell.get("outputs", [])] for cell in kept.cells]
    assert sum(["text/html"] in outputs for outputs in shown) == 4  # two runs, a study, samples
