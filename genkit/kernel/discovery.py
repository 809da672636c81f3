"""Which plugins are installed, and which of them work.

pluggy calls the hooks; finding plugins is done here, since pluggy's own loop stops at the first broken
plugin and silently skips a second one of the same name.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib import metadata, util
from pathlib import Path
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
    """What discovery found.

    Attributes:
        all: Every plugin with its state, by name.
        manager: The hooks of those that loaded.
        offers: By hook without arguments, what each plugin that has it returned.
    """

    all: list[Plugin]
    manager: pluggy.PluginManager
    offers: dict[str, list[tuple[Plugin, Any]]]

    def calls(self, hook: str) -> list[tuple[Plugin, Any]]:
        """(plugin, result) of a hook that takes no arguments, in order of plugin names."""
        return self.offers.get(hook, [])


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
    found, offers = [], defaultdict(list)
    for entry in entries:
        offered: list[tuple[str, Any]] = []
        if (only is not None and entry.name not in only) or entry.name in (without or ()):
            state, why = "disabled", "left out by --plugins, --without or the environment"
        else:
            state, why = _load(manager, entry, offered)
        version = entry.dist.version if entry.dist else "unknown"
        plugin = Plugin(entry.name, _distribution(entry), version, entry.value, state, why)
        found.append(plugin)
        for hook, offer in offered:
            offers[hook].append((plugin, offer))
    return Plugins(found, manager, offers)


def recipe_folders() -> list[tuple[str, Path]]:
    """(distribution, folder) of the packages whose *.toml files plugins offer as recipes; those that are there."""
    found = []
    for plugin, package in installed().calls("genkit_recipes"):
        try:
            spec = util.find_spec(package)
        except (ImportError, ValueError):
            spec = None  # its recipes are not there; `genkit recipe list` shows those that are
        found += [(plugin.distribution, Path(p)) for p in (spec.submodule_search_locations or [])] if spec else []
    return found


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
        hint = f"installed: {', '.join(sorted(known)) or 'none'}"
        raise PluginError(variable, f"no plugin named {unknown[0]!r} is installed", hint)
    return names


def _distribution(entry: metadata.EntryPoint) -> str:
    return entry.dist.name.lower().replace("_", "-") if entry.dist else "unknown"


@contextmanager
def aside(stream: int, other: int) -> Iterator[None]:
    """Within, what is written to a file descriptor goes to another one, also what is written past Python."""
    kept = os.dup(stream)
    try:
        os.dup2(other, stream)
        yield
    finally:
        os.dup2(kept, stream)
        os.close(kept)


@contextmanager
def off_stdout() -> Iterator[None]:
    """Within, what goes to stdout goes to stderr: stdout is for results."""
    with aside(1, 2), redirect_stdout(sys.stderr):
        yield


@off_stdout()
def _load(manager: pluggy.PluginManager, entry: metadata.EntryPoint, offered: list[tuple[str, Any]]) -> tuple[str, str]:
    """Import one plugin and ask what it offers; whatever it does wrong stays its own."""
    try:
        module = importlib.import_module(entry.module)
        api = getattr(module, "GENKIT_API", None)
        if api != hookspecs.API:
            why = f"made for API {api}, this genkit has API {hookspecs.API}"
            return "incompatible", f"{why}: install a version of {_distribution(entry)} made for API {hookspecs.API}"
        plugin_name = f"{_distribution(entry)}:{entry.name}"
        manager.register(module, plugin_name)
        try:
            manager.check_pending()
            offered += _offers(manager, plugin_name)
        except BaseException:
            manager.unregister(name=plugin_name)
            raise
    except BaseException as error:  # an import may raise anything, and --help goes on
        if os.environ.get("GENKIT_DEBUG"):
            sys.excepthook(*sys.exc_info())
        return "failed", " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return "loaded", ""


def _offers(manager: pluggy.PluginManager, plugin_name: str) -> list[tuple[str, Any]]:
    """What a plugin's hooks without arguments return, each of the right shape, by the name of the hook.

    Raises:
        TypeError: One is not.
    """
    found = []
    for caller in manager.get_hookcallers(manager.get_plugin(plugin_name)) or []:
        for impl in caller.get_hookimpls():
            if impl.plugin_name != plugin_name or caller.spec is None or caller.spec.argnames:
                continue
            offer = impl.function()
            by_kind = offer if caller.name == "genkit_components" else {"": offer}
            good = isinstance(by_kind, Mapping) and all(_is_offer(o) for o in by_kind.values())
            if not (isinstance(offer, str) if caller.name == "genkit_recipes" else good):
                raise TypeError(f"{caller.name} returned {str(offer)[:80]!r}: see genkit.hookspecs")
            found.append((caller.name, offer))
    return found


def _is_offer(offer: Any) -> bool:
    named = isinstance(offer, Mapping) and all(isinstance(name, str) for name in offer)
    return named and all(isinstance(o, tuple) and len(o) == 2 and ":" in str(o[0]) for o in offer.values())
