"""Faults of every kind, met by the commands alone. `--thorough` meets more of them, `--faults-seed` others."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from driver import RING, Command, Forked, final, genkit


def pytest_addoption(parser):
    parser.addoption("--thorough", action="store_true", help="faults: many more of them")
    parser.addoption("--faults-seed", default="0", help="faults: of the random moments, bits and recipes")


def pytest_report_header(config):
    return f"faults: seed {config.getoption('faults_seed', '0')}, thorough {config.getoption('thorough', False)}"


def pytest_configure(config):
    config.addinivalue_line("markers", "thorough: a fault that is met with --thorough only")
    config.addinivalue_line("markers", "fault(number, what): the fault that a claim was made for")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("thorough", False):
        left = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"faults: {Command.count} commands, {Command.cpu:.0f} s of CPU time")


@pytest.fixture(scope="session")
def thorough(request):
    return request.config.getoption("thorough", False)


@pytest.fixture(scope="session", autouse=True)
def _server(tmp_path_factory):
    with Forked.served(tmp_path_factory.mktemp("forks")):
        yield


@pytest.fixture(scope="module", autouse=True)
def _elsewhere_for_all(tmp_path_factory):
    """What fixtures of a module do leaves nothing where pytest was started, nor in anybody's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder := tmp_path_factory.mktemp("module"))
        patch.setenv("GENKIT_CACHE", str(folder / "cache"))
        yield


@pytest.fixture(scope="module")
def undisturbed(_elsewhere_for_all):
    """What `RING` comes to."""
    genkit(*RING, "--out", "run")
    return final("run")
