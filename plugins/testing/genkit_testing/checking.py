"""`genkit plugins check`: a plugin held against all that it owes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genkit.cli import show
from genkit.cli.options import Json
from genkit.errors import PluginError
from genkit.kernel import discovery

if TYPE_CHECKING:
    from genkit_testing.suite import Law


def check(
    plugin: Annotated[str, typer.Argument(metavar="[PATH|NAME]", help="A plugin's folder, or its name.")] = ".",
    json: Json = False,
) -> None:
    """Hold an installed plugin against the laws: its module, its components, its recipes, what publishing needs."""
    from genkit_testing import suite  # and torch with it

    found = []
    for law in suite.of(_name(plugin)):
        with discovery.off_stdout():
            found.append((law.what, *_held(law)))
    if json:
        show.as_json([dict(zip(("law", "state", "why"), row, strict=True)) for row in found])
    else:
        show.table([["what", "is", "why"], *found])
    if any(state == "broken" for _, state, _ in found):
        raise typer.Exit(1)


def _held(law: Law) -> tuple[str, str]:
    from genkit_testing.suite import Untried

    try:
        law.hold()
    except Untried as error:
        return "untried", str(error)
    except Exception as error:  # of a plugin's code, which may raise anything
        named = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        return "broken", " ".join(named.split())
    return "kept", ""


def _name(plugin: str) -> str:
    """The plugin's name, or the distribution of its folder."""
    path = Path(plugin)
    if not path.is_dir() or any(plugin in (p.name, p.distribution) for p in discovery.installed().all):
        return plugin
    try:
        name = tomllib.loads((path / "pyproject.toml").read_text("utf-8"))["project"]["name"]
    except (FileNotFoundError, KeyError, tomllib.TOMLDecodeError) as error:
        what = "its pyproject.toml names no project"
        raise PluginError(path, what, "name a plugin's folder, or an installed plugin") from error
    distribution = re.sub(r"[-_.]+", "-", name).lower()
    if distribution not in {p.distribution for p in discovery.installed().all}:
        raise PluginError(path, f"{distribution} is not installed", f"python -m pip install -e {plugin}")
    return distribution
