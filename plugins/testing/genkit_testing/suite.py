"""What a plugin owes, as laws that are held one by one: by `genkit plugins check`, and by an author's tests."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import metadata
from typing import Any, NamedTuple

import attrs

from genkit.errors import DataError, PluginError
from genkit.hookspecs import Lazy
from genkit.kernel import discovery, registry, resolving
from genkit.kernel.loading import load_recipe
from genkit.kinds import fields, names
from genkit_testing.telling import require

HEAVY = ("torch", "numpy", "scipy", "rich")
Settings = Mapping[str, Mapping[str, Any]]


class Law(NamedTuple):
    """What is held, and a function that raises where it is broken, or `Untried`."""

    what: str
    hold: Callable[[], None]


class Untried(Exception):
    """A law could not be held here; says why."""


def of(name: str, settings: Settings | None = None) -> list[Law]:
    """The laws of a plugin, or of all plugins of a distribution.

    Args:
        settings: For components, by name, that need other settings than their own to be tried.

    Raises:
        PluginError: It is not installed.
    """
    found = [p for p in discovery.installed().all if name in (p.name, p.distribution)]
    if not found:
        raise PluginError(name, "no plugin of this name is installed", "python -m pip install -e its folder")
    return [Law(law.what, partial(_current, law.hold)) for plugin in found for law in _of(plugin, settings or {})]


def _current(hold: Callable[[], None]) -> None:
    """Hold a law; what genkit will take away, it takes for broken already."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", r"genkit\b", DeprecationWarning)
        hold()


def _of(plugin: discovery.Plugin, settings: Settings) -> Iterator[Law]:
    yield Law("loads", partial(_loads, plugin))
    yield Law("starts light", partial(_light, plugin.target))
    for info in registry.components().values():
        if info.distribution == plugin.distribution:
            given = settings.get(info.name, {})
            yield Law(f"{info.kind} {info.name}", partial(_component, info, given))
    for hook in ("genkit_commands", "genkit_weights", "genkit_converters", "genkit_kinds"):
        for owner, offer in discovery.installed().calls(hook):
            for name, lazy in offer.items() if owner == plugin else ():
                yield Law(f"{hook.removeprefix('genkit_')[:-1]} {name}", partial(_imports, lazy, name))
    for distribution, folder in discovery.recipe_folders():
        for file in sorted(folder.glob("*.toml")) if distribution == plugin.distribution else ():
            yield Law(f"recipe {file.stem}", partial(_recipe, file.stem))
    yield Law("can be published", partial(_published, plugin.distribution))


def _loads(plugin: discovery.Plugin) -> None:
    require(plugin.state == "loaded", f"{plugin.state}: {plugin.why}", "a plugin that loads")


def _light(module: str) -> None:
    """Importing the entry point's module imports neither torch nor the like, and nothing of its own."""
    code = f"import sys, {module}; print(*[m for m in sys.modules if m in {HEAVY!r} or m.startswith('{module}.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    require(done.returncode == 0, done.stderr.strip()[-200:], f"an `import {module}` that works")
    owed = "neither torch nor its own components, so that `genkit --help` stays fast"
    require(not done.stdout.strip(), f"importing {module} imports {done.stdout.strip()}", owed)


def _component(info: registry.ComponentInfo, given: Mapping[str, Any]) -> None:
    from genkit_testing import laws

    cls = registry.load(info)
    lacks = [n for n, f in fields(cls) if f.default is attrs.NOTHING and "slot" not in f.metadata and n not in given]
    if lacks:
        raise Untried(f"must be given {names(lacks)}")
    try:
        laws.check(resolving.component(info.kind, info.qualified, **given))
    except DataError as error:  # files or weights that are not here
        raise Untried(str(error)) from error


def _imports(lazy: Lazy, name: str) -> None:
    registry.imported(lazy, name)


def _recipe(name: str) -> None:
    load_recipe(name)


def _published(distribution: str) -> None:
    """What a reader of an index, and pip, must be told."""
    told: Any = metadata.metadata(distribution)
    needed = told.get_all("Requires-Dist") or []
    lacks = [
        f"[project] {key}"
        for key, there in {
            "description": told.get("Summary"),
            "readme": told.get_payload() or told.get("Description"),
            "license": told.get("License-Expression") or told.get("License"),
            "requires-python": told.get("Requires-Python"),
            "dependencies with genkit-lab": any(re.match(r"genkit-lab\b(?!-)", one) for one in needed),
        }.items()
        if not there
    ]
    require(not lacks, f"its pyproject.toml lacks {names(lacks)}", "what an index shows and pip needs")
    pinned = [one for one in needed if re.match(r"torch\s*==", one)]
    require(not pinned, f"requires {names(pinned)}", "a range of torch, so that plugins can live together")
