"""`genkit search-steps` and `genkit edit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genkit.cli.options import Device, Json, Run, a_seed

Weights = Annotated[str, typer.Option(help="ema, raw, or the name of another average.")]


def search_steps(
    run: Run,
    steps: Annotated[
        int, typer.Option(min=2, max=10_000, help="Sampling steps; the levels of all but the first are searched.")
    ] = 2,
    metric: Annotated[
        str | None, typer.Option(help="The figure, such as fd.fd; else the first of the first metric.")
    ] = None,
    samples: Annotated[int, typer.Option(min=2, max=10**9, help="Samples for each figure.")] = 5000,
    points: Annotated[int, typer.Option(min=3, max=10_000, help="Levels of the grid that is searched.")] = 81,
    seed: Annotated[int, typer.Option(callback=a_seed, help="Seed of the latents, the same for all levels.")] = 0,
    seeds: Annotated[int, typer.Option(min=2, max=1000, help="Seeds that the noise of the best is told from.")] = 3,
    weights: Weights = "ema",
    device: Device = None,
    json: Json = False,
) -> None:
    """Search the levels of further sampling steps by a metric, one after the other, by thirds."""
    from genkit.cli import show
    from genkit.evaluation import sampling
    from genkit_consistency.level_search import LevelSearch

    def tell(levels: tuple[float, ...], value: float) -> None:
        show.say(f"levels {_spelt(levels)}: {value:.5g}")

    asked = LevelSearch.of(run, metric, samples, weights, device, tell)
    for note in (*asked.planned.notes(training=False), *sampling.unrecorded(asked.denoiser)):
        show.say(f"note: {note}")
    found = asked.search(steps, points, seed, seeds)
    if json:
        show.as_json(found)
        return
    noise, best = found["noise"], found["figure"]
    rows = [[_spelt(levels), f"{value:.5g}", _apart(value, best, noise)] for levels, value in found["probes"]]
    show.table([["levels", found["metric"], "told apart"], *rows])
    print(f"\nbest: levels = [{', '.join(f'{s:.4g}' for s in found['levels'])}] in the recipe's [sampler]")
    print(f"{found['metric']} {best:.5g}, standard deviation {noise:.2g} over {seeds} seeds of {samples} samples")


def _apart(value: float, best: float, noise: float) -> str:
    return "the best" if value == best else "yes" if abs(value - best) > 2 * noise else "no"


def _spelt(levels: tuple[float, ...]) -> str:
    return ",".join(f"{level:.4g}" for level in levels)


def edit(
    run: Run,
    task: Annotated[str, typer.Option(help="inpaint, colorize, upscale or interpolate.")],
    image: Annotated[list[Path] | None, typer.Option(help="A picture of the model's size; two to interpolate.")] = None,
    mask: Annotated[
        Path | None, typer.Option(help="inpaint: white is filled in; else the middle quarter of the picture.")
    ] = None,
    patch: Annotated[int, typer.Option(min=2, help="upscale: pixels on a side that were averaged to one.")] = 4,
    level: Annotated[
        float | None, typer.Option(help="interpolate: level of the noise; sigma_max without pictures, else 1.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=10_000, help="Network calls, down the Karras grid.")] = 39,
    count: Annotated[int, typer.Option(min=1, max=256, help="How many answers.")] = 8,
    seed: Annotated[int, typer.Option(callback=a_seed, help="Seed of the noise.")] = 0,
    label: Annotated[int | None, typer.Option(help="The class, where the model knows classes.")] = None,
    out: Annotated[Path | None, typer.Option(help="grid.png, samples.h5, or a folder of PNGs.")] = None,
    weights: Weights = "ema",
    device: Device = None,
) -> None:
    """Edit pictures with a consistency model that was never trained for it.

    A grid shows the picture, what the model was told of it, and the answers; a file or folder has the answers alone.
    """
    import torch

    from genkit.evaluation import pictures
    from genkit.runs import models
    from genkit_consistency import tasks

    folder, recipe = models.reopen(run)
    denoiser = tasks.fit(models.load(folder, weights, device), run)
    out = pictures.writable(out or folder / "samples" / f"{task}-seed{seed}.png")
    given = tasks.Given(
        images=tuple(image or ()), mask=mask, patch=patch, level=level, steps=steps, count=count, seed=seed, label=label
    )
    shown, answers = tasks.perform(task, denoiser, recipe.levels, given)
    pictures.save(
        out,
        torch.cat([shown, answers]) if out.suffix == ".png" else answers,
        {"run": folder.name, "task": task, "images": " ".join(map(str, given.images)), "seed": seed},
    )
    print(out)
