"""Decoding pictures with Pillow: files or bytes in, one uint8 array out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genkit.data import hdf5
from genkit.errors import DataError
from genkit_images.arrays import Array
from genkit_images.crops import edm
from genkit_images.notices import refused
from genkit_images.reading import quiet, read

SMALLER = "set dataset.size, or pack them small with `genkit data pack`"
EMPTY = np.zeros((0, 0, 0), np.uint8)  # of a picture that is in its place


class Picture(NamedTuple):
    """A picture before decoding: how messages name it, and its file or its bytes."""

    name: str
    source: Path | bytes


class Decoded(NamedTuple):
    """All pictures, uint8 (N, C, H, W), C = 1 or 3, and to how many what was done, by keys of `reading.TOLD`."""

    images: Array
    done: Counter[str]


class _Pixels(NamedTuple):
    values: Array  # (H, W, C)
    told: frozenset[str]
    grey: bool


def decoded(
    where: object,
    pictures: Sequence[Picture],
    size: int | None = None,
    grey: bool = False,
    limit_gib: float = math.inf,
) -> Decoded:
    """All pictures as one array: RGB, or grey where `grey` asks for it or every pixel of every picture is grey.

    Args:
        where: How messages name all of them.
        pictures: At least one.
        size: Side of the square that the centre of each is cut and resized to, in pixels; None keeps
            them as they are.
        limit_gib: Largest array to make, in GiB.

    Raises:
        DataError: Some cannot be read or differ in size, all of them counted; or they are too many.
    """
    with quiet(), ThreadPoolExecutor() as pool:  # Pillow decodes without the interpreter's lock
        tried = partial(_tried, size=size, grey=grey)
        model, first = _first_readable(where, pictures, tried)
        images = _empty(where, len(pictures), first.values.shape, limit_gib)

        def place(i: int) -> _Pixels | DataError:
            found = tried(pictures[i])
            if isinstance(found, DataError):
                return found
            if found.values.shape != first.values.shape:
                return _another_size(pictures[i], found, model, first)
            images[i] = found.values.transpose(2, 0, 1)
            return found._replace(values=EMPTY)

        results = list(pool.map(place, range(len(pictures))))
    if errors := [found for found in results if isinstance(found, DataError)]:
        raise refused(where, errors, len(pictures))
    read_all = [found for found in results if isinstance(found, _Pixels)]
    all_grey = not grey and all(found.grey for found in read_all)
    done = Counter(key for found in read_all for key in found.told if all_grey or key != "colour")
    return Decoded(images[:, :1].copy() if all_grey else images, done)


def _first_readable(
    where: object, pictures: Sequence[Picture], tried: Callable[[Picture], _Pixels | DataError]
) -> tuple[Picture, _Pixels]:
    """The picture whose size the others must have."""
    errors = []
    for picture in pictures:
        found = tried(picture)
        if isinstance(found, _Pixels):
            return picture, found
        errors.append(found)
    raise refused(where, errors, len(pictures))


def _empty(where: object, count: int, shape: tuple[int, ...], limit_gib: float) -> Array:
    height, width, channels = shape
    if (gib := count * math.prod(shape) / 2**30) > limit_gib:
        raise DataError(
            where, f"{count} pictures need {gib:.2f} GiB decoded, above {limit_gib:g}", "raise dataset.max_gib"
        )
    hdf5.require_memory(count * math.prod(shape), f"{where}: {count} pictures of {width}x{height}", SMALLER)
    return np.empty((count, channels, height, width), np.uint8)


def _tried(picture: Picture, size: int | None, grey: bool) -> _Pixels | DataError:
    try:
        image, told = read(picture.name, picture.source)
    except DataError as error:
        return error
    if size is not None:
        image = edm(image, size)
    values = np.asarray(image)
    is_grey = bool((values == values[..., :1]).all())
    return _Pixels(np.asarray(image.convert("L"))[..., None] if grey else values, told, is_grey)


def _another_size(picture: Picture, found: _Pixels, model: Picture, first: _Pixels) -> DataError:
    what = f"is {_size(found.values)}, but {model.name} is {_size(first.values)}"
    return DataError(picture.name, what, "set dataset.size, or make all pictures the same size")


def _size(pixels: Array) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
