"""`genkit export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genkit.cli.options import Run

FORMS = "safetensors, torch-export, onnx, diffusers, web, or hub: a folder with a model card"


def export(
    run: Run,
    to: Annotated[str, typer.Option(help=f"The form: {FORMS}.")],
    steps: Annotated[str, typer.Option(help="Of graphs: sampling steps, or levels after the first: 2 or 0.8")] = "1",
    weights: Annotated[str, typer.Option(help="ema, raw, or the name of another average.")] = "ema",
    checkpoint: Annotated[str, typer.Option(help="latest, best, or a step.")] = "latest",
    license: Annotated[str, typer.Option(help="Of the weights, by its SPDX name: told beside them.")] = "",
    out: Annotated[Path | None, typer.Option(help="Where; by default in exports/ of the run folder.")] = None,
) -> None:
    """Write a trained model in a form that others read, read it back, and compare."""
    from genkit.cli import show
    from genkit_export import exporting, model
    from genkit_runs.sample import steps_of

    made = model.of_run(run, weights, checkpoint, license)
    target, off = exporting.export(made, to, out, steps_of(steps))
    show.say(f"read back: samples differ by {off:.2g} at most")
    print(target)
