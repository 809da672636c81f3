"""For authors of plugins: laws that components of a kind obey, plugins without installing.

In goes a component; out comes an AssertionError that names the law it breaks, or nothing. The laws themselves come with
the distribution genkit-lab-testing, as tests alone need them.

import genkit
from genkit.testing import laws

def test_cauchy_obeys_the_laws_of_losses():
    laws.check(genkit.component("loss", "cauchy"))
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genkit.kernel import registry


def provide(folder: Path, name: str, module: str, version: str = "0.1") -> Path:
    """Write into `folder` what makes `module` a plugin wherever `folder` is on the path: its metadata.

    The module itself, `<module>.py` or a package, is the caller's to put there or elsewhere on the path.
    """
    info = folder / f"genkit_probe_{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: genkit-probe-{name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[genkit]\n{name} = {module}\n")
    return folder


@contextmanager
def present(*folders: Path) -> Iterator[None]:
    """Have folders on the path, with the plugins that they provide."""
    added = [str(folder) for folder in folders]
    sys.path[:0] = added
    registry.forget()
    try:
        yield
    finally:
        for folder in added:
            sys.path.remove(folder)
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(tuple(added)):
                del sys.modules[name]
        registry.forget()


def __getattr__(name: str) -> Any:
    if name != "laws":
        raise AttributeError(f"module 'genkit.testing' has no attribute {name!r}")
    try:
        return importlib.import_module("genkit_testing.laws")
    except ModuleNotFoundError as error:
        why = "is provided by genkit-lab-testing, which is not installed"
        hint = "install it, for instance from plugins/ of a checkout"
        raise ImportError(f"genkit.testing.laws {why}; {hint}", name=error.name) from None
