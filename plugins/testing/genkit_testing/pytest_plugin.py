"""For the tests of plugins, wherever this distribution is installed: fixtures, and the laws as a suite.

    @pytest.mark.genkit("genkit-lab-cauchy", settings={"cauchy": {"c": 2.0}})
    def test_it_keeps_the_law(genkit_law):
        genkit_law()

is a test for each law of the plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FEW = ("train.steps=4", "train.batch_size=16", "evaluate.samples=64", "evaluate.seeds=1", "evaluate.steps=[1]")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "genkit(plugin, settings=None): whose laws the fixture genkit_law holds")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "genkit_law" in metafunc.fixturenames:
        from genkit_testing import suite

        mark = metafunc.definition.get_closest_marker("genkit")
        if mark is None:
            raise pytest.UsageError(f'{metafunc.function.__name__}: give @pytest.mark.genkit("name of the plugin")')
        found = suite.of(*mark.args, **mark.kwargs)
        metafunc.parametrize("genkit_law", found, indirect=True, ids=[law.what for law in found])


@pytest.fixture
def genkit_law(request: pytest.FixtureRequest) -> Callable[[], None]:
    """A law of the plugin that the mark `genkit` names, to be called; skipped where it cannot be held."""
    from genkit_testing import suite

    def held() -> None:
        try:
            request.param.hold()
        except suite.Untried as why:
            pytest.skip(str(why))

    return held


@pytest.fixture
def genkit_registry(tmp_path: Path) -> Iterator[Callable[[str, str, type], None]]:
    """`genkit_registry(kind, name, cls)`: a class is a component, as if installed, while the test lasts."""
    from genkit_testing.installing import offering

    with offering(tmp_path / "offered") as offer:
        yield offer


@pytest.fixture
def tiny_run(tmp_path: Path) -> Callable[..., Any]:
    """`tiny_run(recipe="ict_ring", *overrides, swaps=())`: a few steps and samples, in a folder of the test's own."""

    def run(recipe: str = "ict_ring", *overrides: str, swaps: tuple[str, ...] = ()) -> Any:
        import genkit

        whole = genkit.load_recipe(recipe, [*FEW, *overrides], swaps)
        return genkit.run(whole, tmp_path / f"run-{len(list(tmp_path.glob('run-*')))}")

    return run


@pytest.fixture
def image_spec() -> Any:
    """What samples are in a test of images: RGB, 8x8."""
    from genkit.kinds import Spec

    return Spec(channels=3, height=8, width=8)
