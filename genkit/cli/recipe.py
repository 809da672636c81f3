"""`genkit recipe`."""

from __future__ import annotations

import typer

from genkit.cli import show
from genkit.cli.options import Overrides, Recipe, Swap

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _recipe() -> None:
    """Check, show, list and copy recipes."""


@app.command()
def check(recipe: Recipe, overrides: Overrides = None, swap: Swap = None) -> None:
    """Check a recipe: every problem at once, each with its place."""
    from genkit.kernel.loading import load_recipe

    checked = load_recipe(recipe, overrides or [], swap or [])
    for notice in checked.notices:
        show.say(f"note: {notice}")
    print(f"{recipe}: fine")
