"""One picture of a file or of bytes, by Pillow: 8 bits a channel, RGB, and what was done for that. No torch here."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
from warnings import catch_warnings, simplefilter

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from genkit.errors import DataError

# What Pillow decodes without another program, and without loss where the format has none.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "GIF", "TIFF")
GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B"}
EIGHT_BIT = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"}
DEEP = ";16"  # in Pillow's name of how a PNG's samples lie
TOLD = {
    "turned": "turned by their EXIF tag",
    "cut": "of 16 bits a channel, of which the upper 8 are used, floor(v / 256)",
    "scaled": "portable maps of more than 8 bits a channel, scaled to 0 ... 255",
    "frames": "with several frames or pages, of which the first is used",
    "clear": "with transparent pixels, laid over black",
    "colour": "stored in colour, though every pixel of all is grey, taken as one channel",
    "ink": "in CMYK, converted without their colour profiles",
}
LARGE = 2**24  # pixels; of such pictures one is decoded at a time, however many threads there are
_ALONE, _MUTE = Lock(), Lock()
logging.getLogger("PIL").addHandler(logging.NullHandler())  # what is wrong with a file, its error says


class Read(NamedTuple):
    """A picture, RGB, and keys of `TOLD` for what was done with it."""

    image: Image.Image
    told: frozenset[str]


def read(name: str, source: Path | bytes, upright: bool = True) -> Read:
    """A picture of a file or of its bytes; what shines through is black.

    Args:
        name: How messages call it.
        upright: Turn it as its EXIF data say.

    Raises:
        DataError: It cannot be read, or has samples that Pillow would misread.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            return _read(name, image, upright)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise DataError(name, f"has more than {most:,} pixels", "scale it down, or remove it") from error
    except UnidentifiedImageError as error:
        raise DataError(name, f"is no readable picture ({_unknown(source)})", "replace or remove it") from error
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, ValueError, struct.error, ...
        if isinstance(error, OSError) and error.errno:
            raise DataError(name, f"cannot be read ({error.strerror})", "mend its rights, or remove it") from error
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise DataError(name, f"is no readable picture ({cause})", "replace or remove it") from error


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings of Pillow's on stderr, where they name no file; around threads, as the filters belong to all."""
    with catch_warnings():
        simplefilter("ignore")
        yield


@contextmanager
def _muted() -> Iterator[None]:
    """No lines of libtiff's on stderr: it writes them past Python, beside the error that it gives."""
    with _MUTE, ExitStack() as stack:
        with suppress(OSError):  # where stderr is closed, there is nothing to keep away from it
            kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
            for descriptor in (kept, nowhere):
                stack.callback(os.close, descriptor)
            stack.callback(os.dup2, kept, 2)
            os.dup2(nowhere, 2)
        yield


def _read(name: str, image: Image.Image, upright: bool) -> Read:
    depth, frames = _depth(image), _frames(image)
    grey = image.mode in GREY or (image.format == "PNG" and str(image.tile[0][3]).startswith("LA"))  # of 16 bits: RGBA
    if depth == "?":
        what = f"has pixels of mode {image.mode}, neither grey nor RGB of 8 or 16 bits"
        raise DataError(name, what, "convert it to a PNG of 8 bits")
    mark = _orientation(image) if image.format == "TIFF" else None  # Pillow turns these as it loads them
    with ExitStack() as stack:
        if image.width * image.height > LARGE:
            stack.enter_context(_ALONE)
        if image.format == "TIFF":
            stack.enter_context(_muted())
        image.load()
    turned = upright and (mark or _orientation(image)) in range(2, 9)
    flat = _eight(ImageOps.exif_transpose(image) if upright else image, depth)
    done = {"turned": turned, depth: bool(depth), "frames": frames, "colour": not grey}
    done["ink"] = image.mode == "CMYK"
    done["clear"] = flat.has_transparency_data and flat.convert("RGBA").getextrema()[3] != (255, 255)
    return Read(rgb(flat), frozenset(key for key, is_so in done.items() if is_so))


def _depth(image: Image.Image) -> str:
    """Before it is loaded: "" of 8 bits, a key of `TOLD` of more, "?" of what Pillow would misread."""
    layout = image.tile[0][3] if image.tile else ""
    if image.format == "PNG" and DEEP in str(layout):
        return "?" if "transparency" in image.info else "cut"  # a colour of 16 bits, compared with 8
    if image.format == "PPM" and (image.mode == "I" or (isinstance(layout, tuple) and layout[1] > 255)):
        return "scaled"
    if image.format == "TIFF" and (deep := _tiff_depth(image.tag_v2)) is not None:  # type: ignore[attr-defined]
        return deep
    return "" if image.mode in EIGHT_BIT else "?"


def _tiff_depth(tags: Any) -> str | None:
    """The same of a TIFF; None of 8 bits and less. Pillow mixes up 16 bits that lie in planes, or inverted."""
    bits = set(tags.get(258, (1,)))
    if max(bits) <= 8:
        return None
    black_is_0_or_rgb, planes, order, unsigned = tags.get(262), tags.get(284, 1), tags.get(266, 1), tags.get(339, (1,))
    plain = black_is_0_or_rgb in (1, 2) and planes == 1 and order == 1 and set(unsigned) == {1}
    return "cut" if bits == {16} and plain else "?"


def _frames(image: Image.Image) -> bool:
    """Whether it is an animation, or has more pages; damage behind the first frame is none of ours."""
    with suppress(Exception):
        if image.format == "TIFF":
            return bool(image.tag_v2.next)  # type: ignore[attr-defined]
        return bool(getattr(image, "is_animated", False))
    return False


def _orientation(image: Image.Image) -> int:
    return int(image.getexif().get(0x0112, 1))


def _eight(image: Image.Image, depth: str) -> Image.Image:
    """Grey values of 16 bits as 8; those of colours Pillow has cut alike as it loaded them."""
    if image.mode in EIGHT_BIT:
        return image
    values = np.asarray(image).astype(np.int64)
    return Image.fromarray(((values * 255 + 32767) // 65535 if depth == "scaled" else values >> 8).astype(np.uint8))


def _unknown(source: Path | bytes) -> str:
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    return f"none of {', '.join(FORMATS)}" if size else "it is empty"


def rgb(image: Image.Image) -> Image.Image:
    """RGB; what shines through is black, since the colour of a transparent pixel means nothing."""
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image.convert("RGBA"))
    return image.convert("RGB")
