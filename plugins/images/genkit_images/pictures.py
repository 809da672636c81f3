"""Decoding pictures with Pillow: files or bytes in, one uint8 array out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from genkit.data import hdf5
from genkit.errors import DataError
from genkit_images.arrays import Array
from genkit_images.crops import edm
from genkit_images.members import Picture
from genkit_images.notices import refused
from genkit_images.reading import quiet, read

SMALLER = "set dataset.size, or pack them small with `genkit data pack`"
EMPTY = np.zeros((0, 0, 0), np.uint8)  # of a picture that is in its place


class Decoded(NamedTuple):
    """All pictures, uint8 (N, C, H, W), C = 1 or 3, and to how many what was done, by keys of `reading.TOLD`."""

    images: Array
    done: Counter[str]


class Pixels(NamedTuple):
    """One picture, what was done to it, and whether it has no colour."""

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
        model, first = first_readable(where, pictures, size, grey)
        images = _empty(where, len(pictures), first.values.shape, limit_gib)

        def place(i: int) -> Pixels | DataError:
            found = tried(partial(pictures.__getitem__, i), size, grey)
            if isinstance(found, DataError):
                return found
            if found.values.shape != first.values.shape:
                return another_size(pictures[i].name, found, model, first)
            images[i] = found.values.transpose(2, 0, 1)
            return found._replace(values=EMPTY)

        results = list(pool.map(place, range(len(pictures))))
    if errors := [found for found in results if isinstance(found, DataError)]:
        raise refused(where, errors, len(pictures))
    read_all = [found for found in results if isinstance(found, Pixels)]
    all_grey = not grey and all(found.grey for found in read_all)
    done = Counter(key for found in read_all for key in found.told if all_grey or key != "colour")
    return Decoded(images[:, :1].copy() if all_grey else images, done)


def first_readable(where: object, pictures: Sequence[Picture], size: int | None, grey: bool) -> tuple[Picture, Pixels]:
    """The picture whose size the others must have.

    Raises:
        DataError: There is none.
    """
    errors = []
    for i in range(len(pictures)):
        found = tried(partial(pictures.__getitem__, i), size, grey)
        if isinstance(found, Pixels):
            return pictures[i], found
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


def tried(given: Callable[[], Picture], size: int | None, grey: bool) -> Pixels | DataError:
    """A picture, which is read as it is asked for, or what is wrong with it."""
    try:
        values, told = pixels(given(), size, grey)
    except DataError as error:
        return error
    return Pixels(values, told, grey or bool((values == values[..., :1]).all()))


def pixels(picture: Picture, size: int | None, grey: bool) -> tuple[Array, frozenset[str]]:
    """A picture's values, uint8 (H, W, C), and what was done for them, keys of `reading.TOLD`.

    Raises:
        DataError: It cannot be read.
    """
    image, told = read(picture.name, picture.source)
    if size is not None:
        image = edm(image, size)
    return (np.asarray(image.convert("L"))[..., None] if grey else np.asarray(image)), told


def another_size(name: str, found: Pixels, model: Picture, first: Pixels) -> DataError:
    what = f"is {_size(found.values)}, but {model.name} is {_size(first.values)}"
    return DataError(name, what, "set dataset.size, or make all pictures the same size")


def _size(pixels: Array) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
