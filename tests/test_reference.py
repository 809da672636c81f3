"""The pages made from the code: each kind and room has one, and docstrings come out as they are meant."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from docutils import nodes

from genkit.kernel import registry
from genkit.kinds import KINDS

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def reference():
    sys.path.insert(0, str(DOCS))
    try:
        spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(DOCS))
    return module


def test_each_kind_and_each_room_has_a_page_that_leads_to_its_hook(reference):
    pages = reference.pages()
    assert {name.removeprefix("kind-") for name in pages if name.startswith("kind-")} == set(KINDS)
    assert {"room-top", "room-kernel", "room-data", "room-training", "room-evaluation", "room-runs"} <= set(pages)
    hooks = (DOCS / "hooks.md").read_text()
    assert all(f"### genkit_{kind}\n" in hooks for kind in KINDS)


def test_an_entry_has_what_its_class_says_its_settings_and_its_distribution(reference):
    entry = reference.told(registry.components()["loss", "pseudo-huber"])
    title, said, rows, origin = entry.children
    assert title.astext() == "pseudo-huber" and "one norm per image" in said.astext()
    assert "0.00054 sqrt(d)" in rows.astext() and origin.astext() == "genkit-lab-ict"


def test_a_docstring_is_paragraphs_formulas_and_lists(reference):
    text = """D(x) = |x|^2 of `x`.

    Longer, over
    two lines.

        a(k) = *b*_c

    Args:
        x, y: Batches (B, *),
            of images.
        c: Data units.

    Raises:
        RecipeError: No such crop.
    """
    first, second, formula, *rest = reference.read(text)
    assert first.astext() == "D(x) = |x|^2 of x." and [type(n) for n in first.children][1] is nodes.literal
    assert second.astext() == "Longer, over two lines."
    assert isinstance(formula, nodes.literal_block) and formula.astext() == "a(k) = *b*_c"
    assert [n.astext() for n in rest if isinstance(n, nodes.rubric)] == ["Args", "Raises"]
    args, raises = (n for n in rest if isinstance(n, nodes.bullet_list))
    assert [i.astext() for i in args] == ["x, y: Batches (B, *), of images.", "c: Data units."]
    assert raises.astext() == "RecipeError: No such crop."


def test_signatures_are_readable(reference):
    from genkit.kernel.discovery import Plugin, choose

    assert reference.signature("choose", choose) == "choose(only: str | None, without: str | None)"
    assert reference.signature("Plugin", Plugin).startswith("Plugin(name: str, distribution: str,")


def test_pages_of_studies_that_are_linked_are_there():
    named = [n for page in DOCS.glob("*.md") for n in re.findall(r'<a href="([^":]+)">', page.read_text())]
    assert sorted(named) == sorted(path.name for path in (DOCS / "pages").iterdir())
