"""`genkit data`: look at data sets, check files, pack pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from genkit.cli import show
from genkit.cli.options import Json

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _data() -> None:
    """Look at data sets, and make files of them."""


@app.command()
def info(
    dataset: Annotated[str, typer.Argument(help="A data set, such as digits, or an HDF5 file.")],
    settings: Annotated[list[str] | None, typer.Argument(help="key=value ...", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Size, shape, range and identity of a data set; or what a file has, and how it was made."""
    import attrs

    if Path(dataset).is_file():
        from genkit.data import hdf5

        found = hdf5.described(Path(dataset))
        show.as_json(found) if json else show.table([["", dataset], *([k, _short(v)] for k, v in found.items())])
        return
    from genkit.kernel import registry, resolving, tables, toml
    from genkit.kinds import Setup

    given = tables.override(tables.Layers({}, toml.Places(), set()), [f"dataset.{s}" for s in settings or []])
    data = registry.build(resolving.component("dataset", dataset, **given.tree.get("dataset", {})), Setup())
    sample = data.batch(_indices(min(len(data), 10_000)), _key())
    x = sample.x.float() / 127.5 - 1 if data.spec.dtype == "uint8" else sample.x
    found = {
        "samples": len(data),
        "held out": len(data.held_out) if data.held_out else 0,
        **attrs.asdict(data.spec),
        "mean": round(x.mean().item(), 4),
        "std": round(x.std().item(), 4),
        "identity": data.identity,
    }
    show.as_json(found) if json else show.table([["", dataset], *([k, str(v)] for k, v in found.items())])


@app.command()
def verify(file: Annotated[Path, typer.Argument(help="An HDF5 file.")]) -> None:
    """Read a file to its last byte, checksums included."""
    from genkit.data import hdf5

    for name, identity in hdf5.verify(file).items():
        print(f"{name}: {identity}")


@app.command()
def pack(
    source: Annotated[Path, typer.Argument(help="A folder of classes, each a folder of pictures; or of batches.")],
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    size: Annotated[int, typer.Option(min=1, max=4096, help="Pixels; side of the squares.")],
    crop: Annotated[str, typer.Option(help="edm: centre, Lanczos; adm: box means, bicubic, centre.")] = "edm",
    workers: Annotated[int, typer.Option(min=1, help="Processes; those of this machine by default.")] = (
        os.cpu_count() or 1
    ),
) -> None:
    """Pack pictures of any size, or the published downsampled ImageNet, into one HDF5 file that says how."""
    from genkit_images import packing

    count = packing.pack(source, target, size, crop, workers)
    print(f"{target}: {count} images of {size}x{size}")


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _indices(count: int) -> object:
    import torch

    return torch.arange(count)


def _key() -> object:
    from genkit.keys import Key

    return Key(0)
