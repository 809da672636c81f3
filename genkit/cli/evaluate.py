"""`genkit evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from genkit.cli import show
from genkit.cli.run import Device, Json


def evaluate(
    run: Annotated[str, typer.Argument(help="A run: folder, name, beginning of its id, or latest.")],
    steps: Annotated[str | None, typer.Option(help="Numbers of sampling steps: 1,2")] = None,
    samples: Annotated[int | None, typer.Option(min=2, help="How many samples.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the latents.")] = None,
    weights: Annotated[str | None, typer.Option(help="ema or raw.")] = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Evaluate a run, as its recipe says or otherwise."""
    from genkit import experiment, report
    from genkit.errors import RecipeError

    numbers = tuple(steps.split(",")) if steps else ()
    if not all(n.isdigit() and int(n) > 0 for n in numbers):
        raise RecipeError("--steps", f"{steps!r} is no list of numbers of steps", "for instance 1,2")
    if weights not in (None, "ema", "raw"):
        raise RecipeError("--weights", f"{weights!r} is neither ema nor raw")
    given = {"steps": tuple(map(int, numbers)) or None, "samples": samples, "seed": seed, "weights": weights}
    with show.progress() as watch:
        found = experiment.evaluate(
            run, device=device, watch=watch, **{k: v for k, v in given.items() if v is not None}
        )
    show.as_json(found) if json else show.table(report.figures_table(found))
