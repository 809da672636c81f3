"""Which components there are, by kind and name, and where each came from."""

from __future__ import annotations

import contextlib
import functools
import importlib
from typing import Any, NamedTuple

import attrs

from genkit.errors import GenkitError, PluginError, RecipeError
from genkit.hookspecs import Lazy
from genkit.kernel import discovery, index
from genkit.kinds import KINDS, Context, Kind, Setup, closest, names


class ComponentInfo(NamedTuple):
    """One component on offer; `target` is not imported yet."""

    kind: str
    name: str
    target: str
    summary: str
    distribution: str
    version: str

    @property
    def qualified(self) -> str:
        return f"{self.distribution}/{self.name}"


ORIGIN: dict[type, ComponentInfo] = {}  # of each class that was asked for
_OWN: dict[tuple[str, str], ComponentInfo] = {}  # what was offered without a package


@functools.cache
def _all() -> dict[tuple[str, str], list[ComponentInfo]]:
    found: dict[tuple[str, str], list[ComponentInfo]] = {}
    discovered = discovery.installed()
    offers = [(kind, plugin, offer) for kind in KINDS for plugin, offer in discovered.calls(f"genkit_{kind}")]
    for plugin, by_kind in discovered.calls("genkit_components"):
        offers += [(kind, plugin, offer) for kind, offer in by_kind.items()]
    for kind, plugin, offer in offers:
        for name, (target, summary) in offer.items():
            info = ComponentInfo(kind, name, target, summary, plugin.distribution, plugin.version)
            found.setdefault((kind, name), []).append(info)
    for key, info in _OWN.items():
        found.setdefault(key, []).append(info)
    return found


def offer(name: str, info: ComponentInfo, made: type) -> None:
    """Have a class without a package be found by a name, and what is made of its original be known as it."""
    _OWN[info.kind, name] = ORIGIN[made] = info
    _all.cache_clear()


def forget() -> None:
    """Discover anew at the next question, as after an installation."""
    importlib.invalidate_caches()  # those of the folders' contents, which are by their time of change
    for cached in (discovery.installed, _all, kinds):
        cached.cache_clear()


def components() -> dict[tuple[str, str], ComponentInfo]:
    """All components by (kind, name); where two distributions offer a name, both by their full names."""
    table: dict[tuple[str, str], ComponentInfo] = {}
    for (kind, name), infos in sorted(_all().items()):
        for info in infos:
            table[kind, name if len(infos) == 1 else info.qualified] = info
    return table


@functools.cache
def kinds() -> dict[str, Kind]:
    """The kinds of the core and those that plugins added; one that cannot be imported is not there."""
    table = dict(KINDS)
    for _, offer in discovery.installed().calls("genkit_kinds"):
        for name, (target, summary) in offer.items():
            with contextlib.suppress(PluginError):
                found = imported(Lazy(target, summary), name)
                table |= {name: found} if isinstance(found, Kind) else {}
    return table


def require_kind(kind: str) -> None:
    """Raises an error for a kind that nobody has."""
    if kind not in kinds():
        hint = closest(kind, kinds(), f"kinds: {names(kinds())}")
        raise index.absent("kind", "kind", kind) or RecipeError("kind", f"no kind {kind!r}", hint)


def find(kind: str, name: str, where: str = "") -> ComponentInfo:
    """The one component of this name, or of `distribution/name`.

    Raises:
        RecipeError: No component has the name, or two distributions offer it.
        PluginError: Its plugin is not installed, disabled, or broken.
    """
    where = where or kind
    distribution, _, bare = name.rpartition("/")
    infos = [i for i in _all().get((kind, bare), []) if distribution in ("", i.distribution)]
    if len(infos) == 1:
        return infos[0]
    if infos:
        what = f"{kind} {name!r} is offered by {' and '.join(i.distribution for i in infos)}"
        raise RecipeError(where, what, f"name one: {' or '.join(repr(i.qualified) for i in infos)}")
    raise index.absent(where, kind, bare, distribution) or _unknown(kind, bare, where)


def _unknown(kind: str, name: str, where: str) -> PluginError | RecipeError:
    present = {n for k, n in _all() if k == kind}
    installed = f"installed: {names(present)}"
    hint = closest(name, present, installed)
    broken = [p for p in discovery.installed().all if p.state in ("failed", "incompatible")]
    if broken and hint == installed:
        why = f"and plugin {broken[0].distribution} is {broken[0].state}: {broken[0].why}"
        return PluginError(where, f"no {kind} named {name!r}, {why}", installed)
    return RecipeError(where, f"no {kind} named {name!r}", hint)


def load(info: ComponentInfo) -> type:
    """Import a component's class; remembers where it came from.

    Raises:
        PluginError: The import fails, or the class has no `build`, or else not what its kind owes.
    """
    cls: type = imported(Lazy(info.target, info.summary), info.qualified)
    if not attrs.has(cls):
        raise PluginError(named(info), "its class is no component", "put @attrs.frozen(kw_only=True) above it")
    ORIGIN[cls] = info
    if kind := kinds().get(info.kind):
        _require(info, kind, "its class", cls, {"build"} if kind.builds else kind.methods)
    return cls


def _require(info: ComponentInfo, kind: Kind, what: str, made: object, owed: set[str]) -> None:
    if lacks := owed - set(dir(made)):
        owes = "owes" if "build" in kind.summary or not kind.builds else "owes build(self, context), which gives"
        raise PluginError(named(info), f"{what} has no {names(lacks)}", f"a {info.kind} {owes}: {kind.summary}")


def origin(component: object) -> ComponentInfo | None:
    """Where a component came from; None for what no installed plugin offers."""
    cls = type(component)
    if cls not in ORIGIN:
        target = f"{cls.__module__}:{cls.__qualname__}"
        offered = [info for infos in _all().values() for info in infos if info.target == target]
        if not offered:
            return None
        ORIGIN[cls] = offered[0]
    return ORIGIN[cls]


def info_of(component: object) -> ComponentInfo:
    """Where a component came from; raises a PluginError where no installed plugin offers its class."""
    info = origin(component)
    if info is None:
        raise PluginError(type(component).__name__, "no installed plugin offers this component", "install its plugin")
    return info


@discovery.off_stdout()
def imported(lazy: Lazy, where: str) -> Any:
    """What a plugin's lazy names.

    Raises:
        PluginError: The import fails.
    """
    module, _, name = lazy.target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except BaseException as error:  # an import may raise anything
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginError(where, f"cannot import {lazy.target}: {cause}", "repair or reinstall its plugin") from error


class Missing:
    """Stands for a component of a plugin that is gone; enough where nothing asks for it, as sampling for no loss."""

    def __init__(self, error: GenkitError) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        raise self.error


def build(component: Any, context: Context | Setup) -> Any:
    """The working thing of a component: what its kind's contract in `genkit.kinds` describes.

    Raises:
        PluginError: What it builds is not what its kind owes.
    """
    if isinstance(component, Missing) and not getattr(context, "training", True):
        return component
    info = info_of(component)
    kind = kinds()[info.kind]
    if not kind.builds:
        return component
    built = component.build(context)
    _require(info, kind, f"what it built, {type(built).__name__},", built, kind.methods)
    return built


def named(info: ComponentInfo, slot: str = "") -> str:
    """A component in messages: where it stands, what it is called, and who brings it."""
    return f"{slot or info.kind} {info.name!r} of {info.distribution}"
