"""`genkit ablate`."""

from __future__ import annotations

from typing import Annotated

import typer

from genkit.cli import show
from genkit.cli.run import Device, Json


def ablate(
    recipe: Annotated[str | None, typer.Argument(help="A recipe; the newest run's if not given.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value ...", show_default=False)] = None,
    swap: Annotated[list[str] | None, typer.Option(help="slot=component; an arm for each.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all arms and stop.")] = False,
    device: Device = None,
    json: Json = False,
) -> None:
    """Run a recipe again with components swapped, and compare. One seed: a difference may be chance."""
    from genkit import study

    given, swaps = list(overrides or []), swap or []
    if recipe and "=" in recipe:
        given, recipe = [recipe, *given], None
    if recipe is None:
        chosen, said = study.default_recipe()
        show.say(f"note: taking {said}")
    else:
        chosen = recipe
    planned = study.arms(chosen, swaps, given)
    for arm in planned:
        for notice in arm.recipe.notices:
            show.say(f"note: {arm.label}: {notice}")
    if dry_run:
        show.table([["arm", "recipe"], *([arm.label, arm.recipe.name] for arm in planned)])
        return
    with show.progress() as watch:

        def each(name: str) -> object:
            show.say(f"arm {name}")
            return watch

        outcomes = study.ablate(chosen, swaps, given, device=device, watch=each)  # type: ignore[arg-type]
    show.as_json(study.as_plain(outcomes)) if json else show.table(study.table(outcomes))
    for outcome in outcomes:
        if outcome.cause:
            show.say(f"{outcome.arm}: {outcome.state}: {outcome.cause}")
    if any(outcome.state == "crashed" for outcome in outcomes):
        raise typer.Exit(5)
