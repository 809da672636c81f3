"""Pictures below a folder, or in an archive of one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import attrs
import numpy as np
import torch

from genkit.kinds import Data, Setup, Spec, setting
from genkit_images.archives import Listed, archives, labelled, listed
from genkit_images.arrays import Array, identity, known, located, remembered, resident
from genkit_images.members import Members
from genkit_images.notices import few, summary
from genkit_images.pictures import decoded, first_readable
from genkit_images.reading import quiet
from genkit_images.scanning import Decoder, Index, scanned
from genkit_images.streaming import Large, Streamed

FEWEST = 16  # held-out pictures


@attrs.frozen(kw_only=True)
class ImageFolder(Large):
    """Every picture below a folder, in a zip archive, or in tar shards.

    Decoded once, where all of them are at most `max_gib`; else whenever they are needed. Archives are read as they
    are; the shards of WebDataset are `.tar` files in a folder without pictures.

    PNG, JPEG, BMP, WebP, GIF, TIFF, PPM, PGM and PBM, in the order of their names; hidden files are
    left out, links to folders not followed. Of several frames or pages the first is used. Turned
    upright as their EXIF data say. Of 16 bits a channel the upper 8 are used. Where every pixel of all
    is grey there is one channel, else all become RGB; alpha is laid over black. With `size`, the
    centre square is resized by Lanczos's filter. What is left out, turned or converted is counted, and
    a run says so as it starts.

    A file is held out if a hash of its name within the folder or archive says so: no file changes sides when
    others are added, nor when the folder moves. Fewer than 16 are too few to measure against, and are
    trained on like the rest.
    """

    path: Path = setting(help="the folder or archive; relative paths start from the recipe", identity=False)
    size: int | None = setting(
        None,
        "pixels; side of the squares, the pictures' own size if not given",
        check=attrs.validators.optional(attrs.validators.ge(1)),
    )
    labels: bool = setting(
        False,
        "condition on the class: of dataset.json or .cls files where there are such, else the name of the sub-folder",
    )
    flip: bool = setting(True, "mirror half of the training images")
    grey: bool = setting(False, "one channel of luma (ITU-R 601)")
    held_out: float = setting(
        0.1,
        "share of the files that is never trained on, at most 0.5",
        check=[attrs.validators.ge(0), attrs.validators.le(0.5)],
    )

    def build(self, setup: Setup) -> Data:
        path = located(self.path, setup)
        files: Sequence[Path | str] = archives(path)
        found = None if files else listed(path)
        if found:
            files = [found.members.shown(i) for i in range(len(found.members))]
        what = f"pictures 1: size {self.size}, grey {self.grey}, labels {self.labels}, held out {self.held_out}"
        kept = known(what, files, setup)
        if kept is None or Index.of(path, kept).gib <= self.max_gib:
            found = found or listed(path)
            if self._gib(path, found.members) <= self.max_gib:
                return self.augmented(self._resident(path, found, setup))
            kept = remembered(path, what, files, setup, partial(self._index, path, found))
        return self.augmented(self._streamed(Index.of(path, kept), setup))

    def _gib(self, path: Path, members: Members) -> float:
        """Of all pictures, if they are like the first; those that turn out to be grey take a third."""
        with quiet():
            _, first = first_readable(path, members, self.size, self.grey)
        channels = first.values.shape[2] if not first.grey or self.grey else 1
        return len(members) * first.values[..., :channels].size / 2**30

    def _resident(self, path: Path, found: Listed, setup: Setup) -> Data:
        images, done = decoded(path, found.members, self.size, self.grey)
        labels, classes, said = labelled(found) if self.labels else (None, 0, ())
        aside = self._aside(found.members)
        notices = (*summary(path, len(images), found.left_out, done), *few(path, int((~aside).sum())), *said)

        def part(rows: Array, held_out: Data | None = None, said: tuple[str, ...] = ()) -> Data:
            labels_of = None if labels is None else labels[rows]
            return resident(images[rows], labels_of, self._spec(images.shape[1:], classes), setup, held_out, said)

        return part(~aside, part(aside) if aside.any() else None, notices)

    def _index(self, path: Path, found: Listed) -> dict[str, Array]:
        labels, classes, said = labelled(found) if self.labels else (None, 0, ())
        aside = self._aside(found.members)
        members, shape, hashes, done = scanned(found.members, self.size, self.grey, aside)
        notices = (*summary(path, len(members), found.left_out, done), *few(path, int((~aside).sum())), *said)
        return Index(members, shape, aside, labels, classes, hashes, notices).arrays()

    def _streamed(self, index: Index, setup: Setup) -> Data:
        def part(aside: bool, held_out: Data | None = None, notices: tuple[str, ...] = ()) -> Streamed:
            rows = np.flatnonzero(index.aside == aside)
            labels = None if index.labels is None else index.labels[rows]
            return Streamed(
                rows=Decoder(index.members, rows, index.shape, self.size, self.grey),
                count=len(rows),
                spec=self._spec(index.shape, index.classes),
                identity=identity(index.hashes[aside], labels),
                device=setup.device,
                workers=self.workers,
                labels=None if labels is None else torch.from_numpy(labels),
                held_out=held_out,
                notices=notices,
            )

        return part(False, part(True) if index.aside.any() else None, index.notices)

    def _aside(self, members: Members) -> Array:
        """Which are held out, bool (N,)."""
        aside = np.array([is_held_out(members.name(i), self.held_out) for i in range(len(members))])
        return aside & (aside.sum() >= FEWEST)

    def _spec(self, shape: tuple[int, ...], classes: int) -> Spec:
        channels, height, width = shape
        return Spec(channels=channels, height=height, width=width, classes=classes, flip=self.flip)


def is_held_out(name: str, share: float) -> bool:
    """Whether the first 8 bytes of blake2b over the name, as a fraction of 2^64, are below the share."""
    digest = hashlib.blake2b(os.fsencode(name), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64
