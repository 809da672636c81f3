"""Samples as pictures for people: grids of images, clouds of points."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from genkit.data import atomic, hdf5
from genkit.data.sources import quantise
from genkit.errors import RecipeError

GREY = 40  # of the lines between images, and of places without one


def picture(images: Tensor, columns: int | None = None) -> Tensor:
    """One picture of many samples.

    Args:
        images: uint8 (B, C, H, W) with 1 or 3 channels; or (B, 2, 1, 1), points of the plane.

    Returns:
        uint8 (1 or 3, H', W'): a grid with a line between images; for points their cloud.
    """
    if images.shape[2:] == (1, 1):
        return _cloud(images.flatten(1))
    columns = columns or math.ceil(math.sqrt(len(images)))
    shown = images[:, :3] if images.shape[1] >= 3 else images[:, :1]
    cells = F.pad(shown.cpu(), (1, 0, 1, 0, 0, 0, 0, -len(shown) % columns), value=GREY)  # the last row may lack some
    rows = torch.cat(list(cells.reshape(-1, columns, *cells.shape[1:]).transpose(0, 1)), -1)
    return F.pad(torch.cat(list(rows), -2), (0, 1, 0, 1), value=GREY)


def _cloud(points: Tensor, size: int = 128) -> Tensor:
    """Counts of points in cells of [-1, 1]^2, or of [-1, 1] as columns, brighter where there are more."""
    cells = (points.cpu().long() * size // 256).clamp(0, size - 1)
    rows = size - 1 - cells[:, 1] if cells.shape[1] > 1 else torch.zeros_like(cells[:, 0])
    counts = torch.bincount(rows * size + cells[:, 0], minlength=size * size)[: size * size].reshape(1, size, size)
    if cells.shape[1] == 1:
        counts = counts[:, :1].expand(1, size, size)
    return (255 * (counts / counts.max().clamp(min=1)).sqrt()).to(torch.uint8)


def write(path: Path, image: Tensor, scale: int = 1) -> Path:
    """A PNG of a picture (C, H, W), each pixel `scale` wide; written beside its place and renamed."""
    array = image.permute(1, 2, 0).squeeze(-1).cpu().numpy()
    drawn = Image.fromarray(array)
    drawn = drawn.resize((drawn.width * scale, drawn.height * scale), Image.Resampling.NEAREST)
    with atomic.replacing(path) as partial:
        drawn.save(partial, format="PNG")
    return path


def writable(out: Path) -> Path:
    """The place of samples, if its name says how they are kept.

    Raises:
        RecipeError: It does not.
    """
    if out.suffix not in ("", ".png", ".h5", ".hdf5"):
        raise RecipeError(f"--out {out}", f"{out.suffix!r} is not written", "name a .png, a .h5, or a folder")
    return out


def save(out: Path, x0: Tensor, attributes: dict[str, object], labels: Tensor | None = None) -> None:
    """Samples as a picture, an HDF5 file (float32 and uint8, labels) or a folder of PNGs, by the name of `out`."""
    images = quantise(x0)
    if out.suffix == ".png":
        image = picture(images)
        write(out, image, max(1, 512 // max(image.shape[1:])))
    elif out.suffix in (".h5", ".hdf5"):
        arrays = {"train/images": images.cpu().numpy(), "train/x0": x0.cpu().numpy()}
        if labels is not None:
            arrays["train/labels"] = labels.cpu().numpy()
        hdf5.write(out, arrays, attributes)
    else:
        for i, one in enumerate(images):
            write(out / f"{i:06d}.png", one)
