"""Which plugins are installed, and which of them work.

pluggy calls the hooks; finding plugins is done here, since pluggy's own loop stops at the first broken
plugin and silently skips a second one of the same name.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from importlib import metadata
from typing import Any, NamedTuple

import pluggy

from genkit import hookspecs
from genkit.errors import PluginError

GROUP = "genkit"


class Plugin(NamedTuple):
    """One entry point of group `genkit`.

    Attributes:
        name: The entry point's name, by which `--plugins` and `--without` choose.
        distribution: The distribution that brought it, normalised.
        state: loaded, failed, disabled or incompatible.
        why: One line for the last three.
    """

    name: str
    distribution: str
    version: str
    target: str
    state: str
    why: str = ""


class Plugins(NamedTuple):
    """What discovery found: every plugin with its state, and the manager of those that loaded."""

    all: list[Plugin]
    manager: pluggy.PluginManager

    def calls(self, hook: str) -> list[tuple[Plugin, Any]]:
        """(plugin, result) of a hook that takes no arguments, in order of plugin names."""
        by_distribution = {f"{p.distribution}:{p.name}": p for p in self.all}
        impls = getattr(self.manager.hook, hook).get_hookimpls()
        found = [(by_distribution[i.plugin_name], i.function()) for i in impls]
        return sorted(found, key=lambda pair: (pair[0].name, pair[0].distribution))


@functools.cache
def installed() -> Plugins:
    """Discover and load the plugins of this environment, once.

    `GENKIT_PLUGINS` names those to load (all, if unset), `GENKIT_WITHOUT` those to leave out; both are
    lists with commas.

    Raises:
        PluginError: One of the two names a plugin that is not installed.
    """
    entries = sorted(metadata.entry_points(group=GROUP), key=lambda e: (e.name, _distribution(e)))
    known = {entry.name for entry in entries}
    only, without = _chosen("GENKIT_PLUGINS", known), _chosen("GENKIT_WITHOUT", known)
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    found = []
    for entry in entries:
        if (only is not None and entry.name not in only) or entry.name in (without or ()):
            state, why = "disabled", "left out by --plugins, --without or the environment"
        else:
            state, why = _load(manager, entry)
        version = entry.dist.version if entry.dist else "unknown"
        found.append(Plugin(entry.name, _distribution(entry), version, entry.value, state, why))
    return Plugins(found, manager)


def choose(only: str | None, without: str | None) -> None:
    """Set `--plugins` and `--without` for this process and those that it starts."""
    for variable, names in (("GENKIT_PLUGINS", only), ("GENKIT_WITHOUT", without)):
        if names is not None:
            os.environ[variable] = names
            installed.cache_clear()


def _chosen(variable: str, known: set[str]) -> set[str] | None:
    value = os.environ.get(variable)
    if value is None:
        return None
    names = {name.strip() for name in value.split(",") if name.strip()}
    if unknown := sorted(names - known):
        raise PluginError(
            variable, f"no plugin named {unknown[0]!r} is installed", f"installed: {', '.join(sorted(known)) or 'none'}"
        )
    return names


def _distribution(entry: metadata.EntryPoint) -> str:
    return entry.dist.name.lower().replace("_", "-") if entry.dist else "unknown"


def _load(manager: pluggy.PluginManager, entry: metadata.EntryPoint) -> tuple[str, str]:
    """Import one plugin; whatever it does wrong stays its own."""
    try:
        module = importlib.import_module(entry.module)
        api = getattr(module, "GENKIT_API", None)
        if api != hookspecs.API:
            return "incompatible", (
                f"made for API {api}, this genkit has API {hookspecs.API}: install a version of "
                f"{_distribution(entry)} made for API {hookspecs.API}"
            )
        plugin_name = f"{_distribution(entry)}:{entry.name}"
        manager.register(module, plugin_name)
        try:
            manager.check_pending()
        except pluggy.PluginValidationError:
            manager.unregister(name=plugin_name)
            raise
    except (Exception, SystemExit) as error:
        if os.environ.get("GENKIT_DEBUG"):
            sys.excepthook(*sys.exc_info())
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return "failed", text[:300]
    return "loaded", ""
