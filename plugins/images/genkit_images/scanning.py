"""Pictures that are too many to hold: read through once, then decoded whenever they are needed."""

from __future__ import annotations

import json
import math
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import attrs
import numpy as np

from genkit.data import hdf5
from genkit.errors import DataError
from genkit_images.arrays import BLOCK, Array, joined
from genkit_images.members import Members, Picture
from genkit_images.notices import refused
from genkit_images.pictures import Pixels, another_size, first_readable, pixels, tried
from genkit_images.reading import quiet


@attrs.frozen(eq=False)
class Index:
    """What is known of pictures once each was read.

    Attributes:
        members: Where they lie, with checksums.
        shape: (C, H, W).
        aside: Which are held out, bool (N,).
        labels: int64 (N,), where they are used, and how many classes there are.
        hashes: Of those that are trained on and those held out, as `arrays.hashes` of the decoded images.
        notices: What a run says of them.
    """

    members: Members
    shape: tuple[int, int, int]
    aside: Array
    labels: Array | None
    classes: int
    hashes: tuple[Array, Array]
    notices: tuple[str, ...]

    @property
    def gib(self) -> float:
        return len(self.members) * math.prod(self.shape) / 2**30

    def arrays(self) -> dict[str, Array]:
        """All of it, for a file."""
        files = [str(file) for file in self.members.files]
        told = {"shape": self.shape, "classes": self.classes, "notices": self.notices, "files": files}
        arrays = {
            "places": self.members.table,
            "names": np.frombuffer(self.members.names, np.uint8),
            "aside": self.aside,
        }
        arrays |= {} if self.labels is None else {"labels": self.labels}
        told_as_array = np.frombuffer(json.dumps(told).encode(), np.uint8)
        return {**arrays, "train": self.hashes[0], "held_out": self.hashes[1], "told": told_as_array}

    @classmethod
    def of(cls, folder: Path, arrays: dict[str, Array]) -> Index:
        told = json.loads(arrays["told"].tobytes())
        members = Members(folder, tuple(map(Path, told["files"])), arrays["places"], arrays["names"].tobytes())
        return cls(
            members,
            tuple(told["shape"]),
            arrays["aside"].astype(bool),
            arrays.get("labels"),
            told["classes"],
            (arrays["train"], arrays["held_out"]),
            tuple(told["notices"]),
        )


class Scanned(NamedTuple):
    """Members with their checksums; shape and hashes as of an `Index`; to how many what was done, by `reading.TOLD`."""

    members: Members
    shape: tuple[int, int, int]
    hashes: tuple[Array, Array]
    done: Counter[str]


def scanned(members: Members, size: int | None, grey: bool, aside: Array) -> Scanned:
    """Reads every picture and keeps none; the settings are those of `pictures.decoded`, and so is the outcome.

    Raises:
        DataError: Some cannot be read or differ in size, all of them counted.
    """
    errors: list[DataError] = []
    hashes, table, done = (_Hashes(), _Hashes()), members.table.copy(), Counter[str]()
    with quiet(), ThreadPoolExecutor() as pool:  # Pillow decodes without the interpreter's lock
        model, first = first_readable(members.folder, members, size, grey)

        def given(i: int) -> Picture:
            raw = members.read(i)
            table["crc"][i], table["size"][i] = zlib.crc32(raw), len(raw)
            return Picture(members.shown(i), raw)

        def look(i: int) -> Pixels | DataError:
            found = tried(partial(given, i), size, grey)
            if isinstance(found, Pixels) and found.values.shape != first.values.shape:
                return another_size(members.shown(i), found, model, first)
            return found

        for start in range(0, len(members), BLOCK):
            block = range(start, min(start + BLOCK, len(members)))
            for i, found in zip(block, pool.map(look, block), strict=True):
                if isinstance(found, DataError):
                    errors.append(found)
                else:
                    hashes[int(aside[i])].add(found)
                    done.update(found.told)
    if errors:
        raise refused(members.folder, errors, len(members))
    height, width, channels = first.values.shape
    all_grey = not grey and all(part.all_grey for part in hashes)
    if not all_grey:
        del done["colour"]
    train, held_out = (part.told(all_grey) for part in hashes)
    shape = (1 if all_grey else channels, height, width)
    return Scanned(attrs.evolve(members, table=table), shape, (train, held_out), done)


class _Hashes:
    """Hashes of blocks of images, in colour and, for as long as all are grey, of one channel."""

    def __init__(self) -> None:
        self.all_grey = True
        self._waiting: list[Array] = []
        self._of: tuple[list[str], list[str]] = ([], [])

    def add(self, found: Pixels) -> None:
        self.all_grey &= found.grey
        self._waiting.append(found.values.transpose(2, 0, 1))
        if len(self._waiting) == BLOCK:
            self._take()

    def told(self, all_grey: bool) -> Array:
        self._take()
        return joined(self._of[all_grey])

    def _take(self) -> None:
        if self._waiting:
            block = np.stack(self._waiting)
            self._waiting.clear()
            self._of[0].append(hdf5.content(block))
            if self.all_grey:
                self._of[1].append(hdf5.content(block[:, :1]))


@attrs.frozen(eq=False)
class Decoder:
    """Decodes pictures by their indices.

    Attributes:
        rows: Which of the members they are, int64 (N,).
        shape: (C, H, W), as `scanned` found them.
    """

    members: Members
    rows: Array
    shape: tuple[int, int, int]
    size: int | None
    grey: bool

    def __call__(self, indices: Array) -> Array:
        """Images by indices (n,), uint8 (n, C, H, W).

        Raises:
            DataError: One is damaged or was changed.
        """
        images = np.empty((len(indices), *self.shape), np.uint8)
        with quiet():
            for place, i in zip(images, self.rows[indices].tolist(), strict=True):
                found, _ = pixels(self.members[i], self.size, self.grey)
                place[...] = found.transpose(2, 0, 1)[: self.shape[0]]
        return images
