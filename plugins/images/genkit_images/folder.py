"""Pictures below a folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import attrs
import numpy as np

from genkit.kinds import Data, Setup, Spec, setting
from genkit_images.arrays import located, resident
from genkit_images.augment import Augmented
from genkit_images.notices import few, summary
from genkit_images.pictures import Picture, decoded
from genkit_images.walking import classes_of, of_classes, pictures_below

FEWEST = 16  # held-out pictures


@attrs.frozen(kw_only=True)
class ImageFolder(Augmented):
    """Every picture below a folder, decoded once.

    PNG, JPEG, BMP, WebP, GIF, TIFF, PPM, PGM and PBM, in the order of their names; hidden files are
    left out, links to folders not followed. Of several frames or pages the first is used. Turned
    upright as their EXIF data say. Of 16 bits a channel the upper 8 are used. Where every pixel of all
    is grey there is one channel, else all become RGB; alpha is laid over black. With `size`, the
    centre square is resized by Lanczos's filter. What is left out, turned or converted is counted, and
    a run says so as it starts.

    A file is held out if a hash of its name within the folder says so: no file changes sides when
    others are added, nor when the folder moves. Fewer than 16 are too few to measure against, and are
    trained on like the rest.
    """

    path: Path = setting(help="the folder; relative paths start from the recipe", identity=False)
    size: int | None = setting(
        None,
        "pixels; side of the squares, the pictures' own size if not given",
        check=attrs.validators.optional(attrs.validators.ge(1)),
    )
    labels: bool = setting(False, "condition on the class, the name of the sub-folder")
    flip: bool = setting(True, "mirror half of the training images")
    grey: bool = setting(False, "one channel of luma (ITU-R 601)")
    held_out: float = setting(
        0.1,
        "share of the files that is never trained on, at most 0.5",
        check=[attrs.validators.ge(0), attrs.validators.le(0.5)],
    )

    def build(self, setup: Setup) -> Data:
        folder = located(self.path, setup)
        names, left_out = pictures_below(folder)
        images, done = decoded(folder, [Picture(str(folder / n), folder / n) for n in names], self.size, self.grey)
        labels, classes = classes_of(folder, names) if self.labels else (None, [])
        channels, height, width = images.shape[1:]
        spec = Spec(channels=channels, height=height, width=width, classes=len(classes), flip=self.flip)
        aside = np.array([is_held_out(name, self.held_out) for name in names])
        if aside.sum() < FEWEST:
            aside[:] = False
        notices = (*summary(folder, len(names), left_out, done), *few(folder, int((~aside).sum())))
        notices += of_classes(folder, classes) if self.labels else ()

        def part(rows: np.ndarray, held_out: Data | None = None, said: tuple[str, ...] = ()) -> Data:
            return resident(images[rows], None if labels is None else labels[rows], spec, setup, held_out, said)

        return self.augmented(part(~aside, part(aside) if aside.any() else None, notices))


def is_held_out(name: str, share: float) -> bool:
    """Whether the first 8 bytes of blake2b over the name, as a fraction of 2^64, are below the share."""
    digest = hashlib.blake2b(os.fsencode(name), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64
