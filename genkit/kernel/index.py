"""What distributions are known to offer, installed or not, so that one that is missing can be named.

`index.json` is made by `genkit plugins index --write` from what is installed; entries of distributions that are not
installed stay, so authors of plugins can add theirs.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from genkit.errors import PluginError
from genkit.kernel import discovery

FILE = Path(__file__).with_suffix(".json")
Entry = dict[str, dict[str, list[str]] | list[str]]


@functools.cache
def known() -> dict[str, Entry]:
    """By distribution: `components` by kind, and the names of `commands`, `kinds` and `recipes`."""
    found: dict[str, Entry] = json.loads(FILE.read_text("utf-8"))
    return found


def provider(what: str, name: str) -> str:
    """The distribution that is known to offer a command, a kind, a recipe, or a component of a kind; or ""."""
    for distribution, entry in known().items():
        components: Any = entry["components"]
        if name in entry.get(f"{what}s", ()) or name in components.get(what, ()):
            return distribution
    return ""


def absent(where: str, what: str, name: str, distribution: str = "") -> PluginError | None:
    """The error to raise where something is not there because its plugin is missing or does not work, else None.

    Args:
        what: "command", "kind", "recipe", or the kind of a component.
        distribution: Who should offer it, where that is said.
    """
    provided = distribution or provider(what, name)
    plugins = [plugin for plugin in discovery.installed().all if plugin.distribution == provided]
    if not provided or any(plugin.state == "loaded" for plugin in plugins):
        return None
    if plugins:
        why = f"{what} {name!r} is provided by {provided}, which is {plugins[0].state}: {plugins[0].why}"
        return PluginError(where, why, "`genkit plugins list` shows all plugins")
    why = f"no {what} named {name!r}: it is provided by {provided}, which is not installed"
    return PluginError(where, why, "install it, for instance from plugins/ of a checkout")
