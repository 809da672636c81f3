"""`genkit weights average`."""

from __future__ import annotations

from typing import Annotated

import typer

from genkit.cli import show
from genkit.cli.options import Run


def average(
    run: Run,
    sigma_rel: Annotated[float, typer.Option(help="Its width, a share of the steps taken: 0.05, say.")],
    checkpoint: Annotated[str, typer.Option(help="Of which step: latest, best, or a step.")] = "latest",
) -> None:
    """Make the power-function average of another width from a run's checkpoints.

    The run keeps averages of kind power, and checkpoints of every so many steps (train.keep_every_steps).
    """
    from genkit_optim.widths import make

    made = make(run, sigma_rel, checkpoint)
    show.say(f"note: made of {made.parts} averages; its profile is {made.error:.2%} off that of {sigma_rel:g}")
    if made.error > 0.1:
        show.say("note: more checkpoints come closer (train.keep_every_steps), and averages of other widths")
    show.say(f"note: genkit sample {run} --weights {made.path.stem} takes it")
    print(made.path)
