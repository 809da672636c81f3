"""`genkit plugins index`: the table by which genkit names who brings what is missing, made from what is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from genkit.cli import show
from genkit.kernel import discovery
from genkit.kernel import index as kept


def index(
    write: Annotated[
        bool, typer.Option("--write", help="Write what is installed into the index of this genkit.")
    ] = False,
) -> None:
    """What distributions are known to offer, so that a missing one can be named."""
    if write:
        print(written())
    else:
        show.as_json(kept.known())


def of_installed() -> dict[str, kept.Entry]:
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


def written() -> Path:
    """Make `index.json` anew."""
    entries = {**kept.known(), **of_installed()}
    kept.FILE.write_text(json.dumps(dict(sorted(entries.items())), indent=1) + "\n", "utf-8")
    kept.known.cache_clear()
    return kept.FILE
