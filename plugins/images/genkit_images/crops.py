"""How published data sets were made of pictures of any size: the centre square, halved and filtered. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genkit.errors import DataError

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM")
GREY = {"1", "L", "LA", "La"}
EIGHT_BIT = GREY | {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}


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


def cropped(job: tuple[str, str, int]) -> np.ndarray[Any, Any]:
    """A picture of a file, by the name of a crop, to a size: uint8 (3, size, size).

    Transparent pixels are laid over black. EXIF's orientation is ignored, as both tools do.

    Raises:
        DataError: It cannot be read, or has not 8 bits a channel.
    """
    path, crop, size = job
    try:
        with Image.open(Path(path), formats=FORMATS) as image:
            mode = image.mode
            image.load()
            flat = rgb(image) if mode in EIGHT_BIT else None
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, ValueError, struct.error, ...
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(path, f"is no readable picture ({cause})", "replace or remove it") from error
    if flat is None:
        raise DataError(path, f"has pixels of mode {mode}, not of 8 bits", "convert it to 8 bits")
    return np.asarray(CROPS[crop][0](flat, size)).transpose(2, 0, 1)


def tried(job: tuple[str, str, int]) -> np.ndarray[Any, Any] | tuple[str, str, str]:
    """`cropped`, or the parts of its error, which another process can be told."""
    try:
        return cropped(job)
    except DataError as error:
        return error.where, error.what, error.hint


def rgb(image: Image.Image) -> Image.Image:
    """RGB; what shines through is black, since the colour of a transparent pixel means nothing."""
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image.convert("RGBA"))
    return image.convert("RGB")
