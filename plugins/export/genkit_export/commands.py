"""`genkit export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genkit.cli.options import Run

FORMS = "safetensors, torch-export or onnx"


def export(
    run: Run,
    to: Annotated[str, typer.Option(help=f"The form: {FORMS}.")],
    steps: Annotated[str, typer.Option(help="Of graphs: sampling steps, or levels after the first: 2 or 0.8")] = "1",
    weights: Annotated[str, typer.Option(help="ema, raw, or the name of another average.")] = "ema",
    checkpoint: Annotated[str, typer.Option(help="latest, best, or a step.")] = "latest",
    out: Annotated[Path | None, typer.Option(help="Where; by default in exports/ of the run folder.")] = None,
) -> None:
    """Write a trained model in a form that others read, read it back, and compare."""
    from genkit.cli import show
    from genkit_export import exporting, model
    from genkit_runs.sample import steps_of

    made = model.of_run(run, weights, checkpoint)
    target, off = exporting.export(made, to, out, steps_of(steps))
    show.say(f"read back: samples differ by {off:.2g} at most")
    print(target)
