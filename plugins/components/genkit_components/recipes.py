"""`genkit recipe`: whether one is right, what it comes to, in what two differ, which there are, one of one's own."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from genkit.cli import show
from genkit.cli.options import Json, Overrides, Recipe, Swap
from genkit.evaluation.results import GAP

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _recipe() -> None:
    """Check, show, compare, list and copy recipes."""


@app.command()
def check(recipe: Recipe, overrides: Overrides = None, swap: Swap = None) -> None:
    """Check a recipe, and whether what a run of it needs is here: every problem at once, each with its place."""
    from genkit.kernel import resolving
    from genkit.kernel.loading import load_recipe
    from genkit_components.lacking import lacking

    checked = load_recipe(recipe, overrides or [], swap or [])
    problems, downloads = lacking(checked)
    for text in (*checked.notices, *downloads):
        show.say(f"note: {text}")
    resolving.stop(problems)
    print(f"{recipe}: fine")


@app.command("show")
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
        show.table([["key", "value", "from"], *provenance_of(checked)])
    else:
        print(checked.toml(), end="")


def provenance_of(recipe: Any) -> list[tuple[str, str, str]]:
    """(key, value, who wrote it) of every value."""
    from genkit.kernel import toml

    told = []
    for key, value in toml.leaves(recipe.tree()):
        who = recipe.places.get(key) or recipe.places.get(toml.hoisted(key)) or "default"
        told.append((".".join(key), str(value), str(who)))
    return told


@app.command()
def diff(
    a: Recipe,
    b: Annotated[str, typer.Argument(help="Another one.")],
    json: Json = False,
) -> None:
    """In what two recipes differ, every default written out."""
    from genkit.kernel import toml
    from genkit.kernel.loading import load_recipe

    one, other = ({".".join(key): value for key, value in toml.leaves(load_recipe(name).tree())} for name in (a, b))
    keys = [key for key in {**one, **other} if key != "name" and one.get(key) != other.get(key)]
    if json:
        show.as_json({key: [one.get(key), other.get(key)] for key in keys})
    else:
        rows = [[key, *(str(side.get(key, GAP)) for side in (one, other))] for key in keys]
        show.table([["", a, b], *rows])


@app.command("list")
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
    head = itertools.takewhile(lambda line: line[:1] == "#", text.split("\n"))
    lines = (line.removeprefix("#").strip() for line in head if not line.startswith("#:"))  # which is for editors
    whole = " ".join(itertools.takewhile(bool, lines))
    return re.split(r"(?<=\.) (?=[A-Z])", whole)[0]


@app.command()
def copy(
    recipe: Recipe,
    to: Annotated[Path, typer.Argument(help="The new file.")],
) -> None:
    """Write a recipe as one flattened file of one's own."""
    from genkit.errors import RecipeError
    from genkit.kernel.loading import load_recipe
    from genkit.runs import store

    if to.exists():
        raise RecipeError(to, "is there already", "choose another name")
    store.keep_recipe(to, load_recipe(recipe))
    print(to)
