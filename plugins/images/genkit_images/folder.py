"""Pictures below a folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import attrs
import numpy as np

from genkit.errors import DataError
from genkit.kinds import Data, Setup, Spec, setting
from genkit_images.arrays import located, resident
from genkit_images.pictures import Picture, decoded

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm"}

FEWEST = 16  # held-out pictures


@attrs.frozen(kw_only=True)
class ImageFolder:
    """Every picture below a folder, decoded once.

    PNG, JPEG, BMP, WebP, PPM and PGM with 8 bits a channel, in the order of their names; hidden files
    are left out, links to folders not followed. Turned upright as their EXIF data say. Where all are
    grey there is one channel, else all become RGB; alpha is laid over black. With `size`, the centre
    square is resized by Lanczos's filter.

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
        names = pictures_below(folder)
        images = decoded([Picture(str(folder / n), folder / n) for n in names], self.size, self.grey)
        labels, classes = classes_of(folder, names) if self.labels else (None, 0)
        channels, height, width = images.shape[1:]
        spec = Spec(channels=channels, height=height, width=width, classes=classes, flip=self.flip)
        aside = np.array([is_held_out(name, self.held_out) for name in names])
        if aside.sum() < FEWEST:
            aside[:] = False

        def part(rows: np.ndarray, held_out: Data | None = None) -> Data:
            return resident(images[rows], None if labels is None else labels[rows], spec, setup, held_out)

        return part(~aside, part(aside) if aside.any() else None)


def pictures_below(folder: Path) -> list[str]:
    """Names of the pictures, relative to the folder, with "/", sorted.

    Raises:
        DataError: There is no such folder, it cannot be listed, or it has no pictures.
    """
    if not folder.is_dir():
        raise DataError(folder, "no such folder", "check dataset.path")
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
    names = sorted(
        n.as_posix() for n in found if not any(p.startswith(".") for p in n.parts) and (folder / n).is_file()
    )
    if not names:
        raise DataError(folder, "has no pictures", f"genkit reads {', '.join(sorted(EXTENSIONS))}")
    return names


def classes_of(folder: Path, names: list[str]) -> tuple[np.ndarray, int]:
    """Labels, int64 (N,), and how many classes there are: the sub-folders, numbered in sorted order.

    Raises:
        DataError: A picture is in no sub-folder.
    """
    if loose := [name for name in names if "/" not in name]:
        raise DataError(
            folder / loose[0],
            "is in no sub-folder, so it has no class",
            "move it into one, or set dataset.labels = false",
        )
    classes, labels = np.unique([name.partition("/")[0] for name in names], return_inverse=True)
    return labels.astype(np.int64), len(classes)


def is_held_out(name: str, share: float) -> bool:
    """Whether the first 8 bytes of blake2b over the name, as a fraction of 2^64, are below the share."""
    digest = hashlib.blake2b(os.fsencode(name), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64
