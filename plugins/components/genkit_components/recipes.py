"""`genkit recipe show`, `list` and `copy`: what a recipe comes to, which there are, how one becomes one's own."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Annotated

import typer

from genkit.cli import show
from genkit.cli.options import Json, Overrides, Recipe, Swap


def show_(
    recipe: Recipe,
    overrides: Overrides = None,
    swap: Swap = None,
    provenance: Annotated[bool, typer.Option("--provenance", help="Say who wrote each value.")] = False,
    json: Json = False,
) -> None:
    """The resolved recipe, every default written out."""
    from genkit.kernel.loading import load_recipe

    checked = load_recipe(recipe, overrides or [], swap or [])
    if json:
        show.as_json(checked.tree())
    elif provenance:
        show.table([["key", "value", "from"], *checked.provenance()])
    else:
        print(checked.toml(), end="")


def list_(json: Json = False) -> None:
    """Installed recipes."""
    from genkit.kernel.loading import installed

    found = {name: where for name, where in installed().items() if "/" not in name}
    if json:
        show.as_json({name: {"distribution": d, "file": str(f)} for name, (d, f) in found.items()})
        return
    rows = [["recipe", "from", "what"]]
    for name, (distribution, file) in found.items():
        rows.append([name, distribution, summary(file.read_text())])
    show.table(rows)


def summary(text: str) -> str:
    """The first sentence of the comment that a recipe begins with; empty where there is none."""
    lines = (
        line.removeprefix("#").strip() for line in itertools.takewhile(lambda line: line[:1] == "#", text.split("\n"))
    )
    whole = " ".join(itertools.takewhile(bool, lines))
    return re.split(r"(?<=[.:]) (?=[A-Z])", whole)[0]


def copy(
    recipe: Recipe,
    to: Annotated[Path, typer.Argument(help="The new file.")],
) -> None:
    """Write a recipe as one flattened file of one's own."""
    from genkit.data import atomic
    from genkit.errors import RecipeError
    from genkit.kernel.loading import load_recipe

    if to.exists():
        raise RecipeError(to, "is there already", "choose another name")
    atomic.write(to, load_recipe(recipe).toml())
    print(to)
