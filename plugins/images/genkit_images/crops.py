"""How published data sets were made of pictures of any size: the centre square, halved and filtered. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from genkit.errors import DataError
from genkit_images.reading import quiet, read


class Cropped(NamedTuple):
    """Pixels, uint8 (3, size, size), and what was done to the picture, keys of `reading.TOLD`."""

    pixels: np.ndarray[Any, Any]
    told: frozenset[str]


def edm(image: Image.Image, size: int) -> Image.Image:
    """The centre square of the shorter side, resized by Lanczos's filter.

    As `--transform=center-crop` of EDM's dataset tool, with which its ImageNet 64x64 was made.
    """
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)


def adm(image: Image.Image, size: int) -> Image.Image:
    """Halved by box means while the shorter side stays above `size`, then bicubic, then the centre square.

    As the loader of guided-diffusion, of OpenAI's consistency models, and `center-crop-dhariwal` of EDM2's tool.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


CROPS = {"edm": (edm, "lanczos"), "adm": (adm, "box, bicubic")}


def cropped(job: tuple[str, str, int]) -> Cropped:
    """A picture of a file, by the name of a crop, to a size.

    Transparent pixels are laid over black. EXIF's orientation is ignored, as both tools do.

    Raises:
        DataError: It cannot be read.
    """
    path, crop, size = job
    with quiet():
        found = read(path, Path(path), upright=False)
    return Cropped(np.asarray(CROPS[crop][0](found.image, size)).transpose(2, 0, 1), found.told)


def tried(job: tuple[str, str, int]) -> Cropped | tuple[str, str, str]:
    """`cropped`, or the parts of its error, which another process can be told."""
    try:
        return cropped(job)
    except DataError as error:
        return error.where, error.what, error.hint
