"""`genkit data pack`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


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
