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


def of_installed() -> dict[str, Entry]:
    """The entries of the plugins that are installed and work."""
    installed = discovery.installed()
    components: dict[str, dict[str, list[str]]] = {p.distribution: {} for p in installed.all if p.state == "loaded"}
    for hook, offers in installed.offers.items():
        for plugin, offer in offers:
            by_kind = offer if hook == "genkit_components" else {hook.removeprefix("genkit_"): offer}
            if hook not in ("genkit_recipes", "genkit_weights", "genkit_converters"):
                components[plugin.distribution] |= {kind: sorted(names) for kind, names in by_kind.items()}
    recipes: dict[str, list[str]] = {}
    for distribution, folder in discovery.recipe_folders():
        recipes.setdefault(distribution, []).extend(sorted(file.stem for file in folder.glob("*.toml")))
    return {
        distribution: {
            "commands": offered.pop("commands", []),
            "kinds": offered.pop("kinds", []),
            "recipes": recipes.get(distribution, []),
            "components": dict(sorted(offered.items())),
        }
        for distribution, offered in components.items()
    }


def write() -> Path:
    """Make `index.json` anew."""
    entries = {**known(), **of_installed()}
    FILE.write_text(json.dumps(dict(sorted(entries.items())), indent=1) + "\n", "utf-8")
    known.cache_clear()
    return FILE
