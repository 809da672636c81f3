"""For authors of plugins: laws that components of a kind obey, plugins without installing.

In goes a component; out comes an AssertionError that names the law it breaks, or nothing. All of it comes with the
distribution genkit-lab-testing, as tests alone need it.

import genkit
from genkit.testing import laws

def test_cauchy_obeys_the_laws_of_losses():
    laws.check(genkit.component("loss", "cauchy"))
"""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    if name not in ("laws", "present", "provide"):
        raise AttributeError(f"module 'genkit.testing' has no attribute {name!r}")
    try:
        laws = importlib.import_module("genkit_testing.laws")
        return laws if name == "laws" else getattr(importlib.import_module("genkit_testing.installing"), name)
    except ModuleNotFoundError as error:
        why = f"genkit.testing.{name} is provided by genkit-lab-testing, which is not installed"
        raise ImportError(f"{why}; install it, for instance from plugins/ of a checkout", name=error.name) from None
