"""Decoding pictures with Pillow: files or bytes in, one uint8 array out."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from genkit.errors import DataError
from genkit_images.arrays import Array
from genkit_images.crops import EIGHT_BIT, FORMATS, GREY, edm, rgb


class Picture(NamedTuple):
    """A picture before decoding: how messages name it, and its file or its bytes."""

    name: str
    source: Path | bytes


def decoded(
    pictures: Sequence[Picture], size: int | None = None, grey: bool = False, limit_gib: float = math.inf
) -> Array:
    """All pictures as one array: RGB, or grey where `grey` asks for it or every picture is grey.

    Args:
        pictures: At least one.
        size: Side of the square that the centre of each is cut and resized to, in pixels; None keeps
            them as they are.
        limit_gib: Largest array to make, in GiB.

    Returns:
        uint8 (N, C, H, W), C = 1 or 3.

    Raises:
        DataError: One cannot be read, they differ in size, or there are too many.
    """
    height, width = _decode(pictures[0], size, grey)[0].shape[:2]
    shape = (len(pictures), 1 if grey else 3, height, width)
    if (gib := math.prod(shape) / 2**30) > limit_gib:
        raise DataError(
            pictures[0].name, f"and the others need {gib:.2f} GiB decoded, above {limit_gib:g}", "raise dataset.max_gib"
        )
    images = np.empty(shape, np.uint8)

    def place(i: int) -> bool:
        pixels, is_grey = _decode(pictures[i], size, grey)
        if pixels.shape[:2] != (height, width):
            raise DataError(
                pictures[i].name,
                f"is {_size(pixels)}, but {pictures[0].name} is {width}x{height}",
                "set dataset.size, or make all pictures the same size",
            )
        images[i] = pixels.transpose(2, 0, 1)
        return is_grey

    with ThreadPoolExecutor() as pool:  # Pillow decodes without the interpreter's lock
        all_grey = all(list(pool.map(place, range(len(pictures)))))
    return images[:, :1].copy() if all_grey and not grey else images


def _decode(picture: Picture, size: int | None, grey: bool) -> tuple[Array, bool]:
    """Pixels (H, W, C) and whether the picture itself is grey."""
    try:
        source = io.BytesIO(picture.source) if isinstance(picture.source, bytes) else picture.source
        with Image.open(source, formats=FORMATS) as image:
            mode = image.mode
            image.load()
            upright = rgb(ImageOps.exif_transpose(image)) if mode in EIGHT_BIT else None
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, ValueError, struct.error, ...
        raise DataError(
            picture.name, f"is no readable picture ({type(error).__name__}: {error})", "replace or remove it"
        ) from error
    if upright is None:
        raise DataError(picture.name, f"has pixels of mode {mode}, not of 8 bits", "convert it to 8 bits")
    if size is not None:
        upright = edm(upright, size)
    pixels = np.asarray(upright.convert("L") if grey else upright)
    return pixels.reshape(*pixels.shape[:2], -1), mode in GREY


def _size(pixels: Array) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
