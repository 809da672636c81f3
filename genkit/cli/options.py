"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from genkit.errors import RecipeError

Recipe = Annotated[str, typer.Argument(help="A recipe file, or the name of an installed recipe.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key.path=value ...", show_default=False)]
Swap = Annotated[list[str] | None, typer.Option(help="slot=component, replacing its table.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps (untested).")]
Run = Annotated[str, typer.Argument(help="A run: folder, name, beginning of its id, or latest.")]


def a_seed(given: int) -> int:
    """Of options for seeds, a callback: a seed has 64 bits, as in recipes.

    Raises:
        RecipeError: It does not.
    """
    if not 0 <= given < 2**63:
        raise RecipeError("--seed", f"{given} is no seed", "name one from 0 to 2^63 - 1")
    return given
