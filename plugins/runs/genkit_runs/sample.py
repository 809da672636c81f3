"""`genkit sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genkit.cli import show
from genkit.cli.options import Device, Run, a_seed


def sample(
    run: Run,
    steps: Annotated[str, typer.Option(help="Sampling steps, or levels after the first: 2 or 0.8 or 1.5,0.5")] = "1",
    count: Annotated[int, typer.Option(min=1, max=10**7, help="How many.")] = 64,
    seed: Annotated[int, typer.Option(callback=a_seed, help="Sample i depends on (seed, i) alone.")] = 0,
    label: Annotated[
        str | None, typer.Option(help="One class for all, or evenly; else as often as in the data.")
    ] = None,
    weights: Annotated[str, typer.Option(help="ema, raw, or the name of another average.")] = "ema",
    checkpoint: Annotated[str, typer.Option(help="latest, best, or a step.")] = "latest",
    out: Annotated[Path | None, typer.Option(help="grid.png, samples.h5, or a folder of PNGs.")] = None,
    device: Device = None,
) -> None:
    """Draw samples of a run, or of a model that was exported."""
    from genkit.evaluation import pictures, sampling
    from genkit.runs import models, store

    levels, path = steps_of(steps), Path(run)
    if store.weights_in(path):
        _as_it_is(weights=weights != "ema", checkpoint=checkpoint != "latest")
        name, place = path.name, Path(f"{path.stem}-steps{steps}-seed{seed}.png")
    else:
        folder = store.find(run)
        at = "" if checkpoint == "latest" else f"-{checkpoint}"
        name, place = folder.name, folder / "samples" / f"sample-steps{steps}-seed{seed}-{weights}{at}.png"
    denoiser = models.load(run, weights, device, checkpoint)
    out = pictures.writable(out or place)
    for text in sampling.unrecorded(denoiser):
        show.say(f"note: {text}")
    batch = sampling.samples(denoiser, count, levels, seed, _label(label))
    told = {"run": name, "steps": steps, "seed": seed, "weights": weights}
    told["label"] = "all" if label is None else label
    pictures.save(out, batch.x, told, batch.cond.get("label"))
    print(out)


def _as_it_is(**given: bool) -> None:
    from genkit.errors import RecipeError

    for name in (name for name, there in given.items() if there):
        raise RecipeError(f"--{name}", "is for runs; a model that was exported is as it is", "leave it out")


def _label(text: str | None) -> int | str | None:
    from genkit.errors import RecipeError
    from genkit.evaluation import sampling

    if text in (None, sampling.EVENLY):
        return text
    if not str(text).isdecimal():
        raise RecipeError("--label", f"{text!r} is neither a class nor evenly", "for instance 3")
    return int(str(text))


def steps_of(text: str) -> int | list[float]:
    """`--steps`: a number of steps, or the levels after the first.

    Raises:
        RecipeError: It is neither.
    """
    from genkit.errors import RecipeError

    try:
        return int(text) if text.isdecimal() else [float(part) for part in text.split(",")]
    except ValueError as error:
        raise RecipeError("--steps", f"{text!r} is neither a number nor levels", "for instance 2, or 0.821") from error
