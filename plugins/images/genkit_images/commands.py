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
    dataset: Annotated[
        str, typer.Argument(help="A data set, such as digits, a recipe, a folder of pictures, an .h5 or .npz.")
    ],
    settings: Annotated[list[str] | None, typer.Argument(help="key=value ...", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Size, shape, range and identity of a data set, what was left out or converted; or what a file has, and how it
    was made."""
    from genkit_images.about import about

    found = about(dataset, settings or [])
    if json:
        show.as_json(found)
        return
    notices, line = found.pop("notices", []), found.pop("to learn them", "")
    show.table([["", dataset], *([name, _short(value)] for name, value in found.items())])
    for notice in notices:
        print(f"note: {notice}")
    if line:
        print(f"to learn them: {line}")


@app.command()
def verify(file: Annotated[Path, typer.Argument(help="An HDF5 file.")]) -> None:
    """Read a file to its last byte, checksums included."""
    from genkit_images import verifying

    for name, identity in verifying.verify(file).items():
        print(f"{name}: {identity}")


@app.command()
def pack(
    source: Annotated[
        Path, typer.Argument(help="A folder of pictures; of classes, each a folder of them; or of batches.")
    ],
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    size: Annotated[int, typer.Option(min=1, max=4096, help="Pixels; side of the squares.")],
    crop: Annotated[str, typer.Option(help="edm: centre, Lanczos; adm: box means, bicubic, centre.")] = "edm",
    workers: Annotated[int, typer.Option(min=1, help="Processes; those of this machine by default.")] = (
        os.cpu_count() or 1
    ),
) -> None:
    """Pack pictures of any size, or the published downsampled ImageNet, into one HDF5 file that says how."""
    from genkit_images import packing

    count = packing.pack(source, target, size, crop, workers, lambda text: show.say(f"note: {text}"))
    print(f"{target}: {count} images of {size}x{size}")


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
