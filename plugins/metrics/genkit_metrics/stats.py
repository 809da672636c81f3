"""`genkit stats`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genkit.cli import show
from genkit.cli.options import Device, Json

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _stats() -> None:
    """Reference statistics that samples are held against."""


@app.command()
def make(
    what: Annotated[str, typer.Argument(help="A data set, a recipe, a folder of pictures or an HDF5 file.")],
    out: Annotated[Path, typer.Option(help="The file, .h5; or .npz for features of inception.")],
    features: Annotated[str, typer.Option(help="Features component.")] = "inception",
    device: Device = None,
) -> None:
    """Mean and covariance of the features of all training images."""
    from genkit.data import cache_folder, named
    from genkit.evaluation import images, scoring
    from genkit.kernel import registry, resolving
    from genkit.kinds import Context
    from genkit.training import processes
    from genkit_metrics import published

    device = processes.start(processes.pick_device(device))
    component, setup = named.component_of(what, device)
    data = registry.build(component, setup)
    context = Context(device=device, cache_dir=cache_folder(), spec=data.spec, data=data.identity, dataset=component)
    component = resolving.component("features", features)
    few = next(images.blocks(data, 2), None)  # which are the first process's
    seen = processes.gather(list(registry.build(component, context)(few.x)) if few else [])[0]
    metrics = {n: resolving.component("metric", "fd", features=component, feature=n, floor=False) for n in seen}
    with show.progress() as watch:
        scorer = scoring.Scorer(
            metrics,
            context,
            data,
            watch=scoring.progress(watch),
            held_out=False,
        )
    if processes.rank() == 0:
        published.write(out, scorer.statistics())
        print(out)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Statistics: .h5, or .npz as EDM or ADM publish them.")],
    dest: Annotated[Path, typer.Argument(help="The file to write: .h5 or .npz.")],
    samples: Annotated[int | None, typer.Option(min=2, help="How many images, where the source does not say.")] = None,
    resolution: Annotated[int | None, typer.Option(min=1, help="Side of these, where the source does not say.")] = None,
) -> None:
    """Statistics from one layout to the other."""
    import attrs
    import torch

    from genkit.evaluation import references
    from genkit_metrics import published

    found = references.read(source)
    if samples and not found.samples:
        features = [name.removesuffix("/mean") for name in found.arrays if name.endswith("/mean")]
        counts = {f"{feature}/n": torch.tensor([samples]) for feature in features}
        found = attrs.evolve(found, arrays={**found.arrays, **counts})
    if resolution and not found.shape:
        found = attrs.evolve(found, shape=(3, resolution, resolution))
    published.write(dest, found)
    print(dest)


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="Statistics: .h5 or .npz.")],
    json: Json = False,
) -> None:
    """What statistics are of."""
    from genkit.evaluation import references

    found = references.read(file)
    told = {
        "features": f"{found.features} {found.hash}".strip(),
        "images": found.samples or "not told",
        "size": "x".join(map(str, found.shape)) or "not told",
        "data": found.data or "not told",
        "pipeline": found.pipeline or "not told",
        **{name: "x".join(map(str, array.shape)) for name, array in sorted(found.arrays.items())},
    }
    show.as_json(told) if json else show.table([["", str(file)], *([k, str(v)] for k, v in told.items())])
