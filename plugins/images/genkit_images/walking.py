"""Which files below a folder are pictures, and what else there is, counted by why it is left out."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genkit.errors import DataError
from genkit_images.forms import no_folder
from genkit_images.notices import counts, listed, refused

EXTENSIONS = {
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".pbm", ".pgm", ".ppm", ".pnm", ".gif", ".tif", ".tiff",
}  # fmt: skip


class Found(NamedTuple):
    """Names of pictures, relative to their folder, with "/", sorted; and how much else there is, by reason."""

    names: list[str]
    left_out: Counter[str]


def pictures_below(folder: Path, may_be_empty: bool = False) -> Found:
    """The pictures below a folder; hidden files are left out, links to folders not followed.

    Raises:
        DataError: There is no such folder, it cannot be listed, or it has no pictures.
    """
    if not folder.is_dir():
        raise no_folder(folder)
    names: list[str] = []
    left_out: Counter[str] = Counter()
    for at, folders, files in os.walk(folder, onerror=lambda error: _unlisted(folder, error, left_out)):
        here = Path(at)
        left_out["empty folders"] += here != folder and not folders and not files
        for name in list(folders):
            if reason := _folder_left_out(here / name):
                left_out[reason] += 1
                folders.remove(name)
        for name in files:
            if reason := _left_out(here / name):
                left_out[reason] += 1
            else:
                names.append((here / name).relative_to(folder).as_posix())
    if not names and not may_be_empty:
        there = f", but other things ({counts(left_out)})" if +left_out else ""
        raise DataError(folder, f"has no pictures{there}", f"genkit reads {', '.join(sorted(EXTENSIONS))}")
    return Found(sorted(names), +left_out)


def _unlisted(folder: Path, error: OSError, left_out: Counter[str]) -> None:
    if Path(error.filename) == folder:
        raise DataError(folder, f"cannot be listed ({error.strerror})", "mend its rights")
    left_out["folders that must not be listed"] += 1


def _folder_left_out(path: Path) -> str:
    if path.name.startswith("."):
        return "hidden"
    return "links to folders" if path.is_symlink() else ""


def _left_out(path: Path) -> str:
    """Why a file is no picture of the data set; empty for one that is."""
    if reason := left_out_by_name(path.name):
        return reason
    if not path.is_file():
        return "links to nothing" if path.is_symlink() else "no regular files"
    return ""


def left_out_by_name(name: str) -> str:
    """Why a file or a member of an archive is no picture, by its name alone; empty for one that may be."""
    *_, last = parts = name.split("/")
    if any(part.startswith(".") for part in parts):
        return "hidden"
    suffix = os.path.splitext(last)[1].lower()
    return "" if suffix in EXTENSIONS else suffix or "without a suffix"


def classes_of(folder: Path, names: list[str]) -> tuple[np.ndarray, list[str]]:
    """Labels, int64 (N,), and the classes: the sub-folders, numbered in sorted order.

    Raises:
        DataError: Pictures are in no sub-folder.
    """
    if loose := [name for name in names if "/" not in name]:
        hint = "move it into one, or do without classes: dataset.labels = false; `genkit data pack`: no sub-folders"
        errors = [DataError(folder / name, "is in no sub-folder, so it has no class", hint) for name in loose]
        raise refused(folder, errors, len(names))
    classes, labels = np.unique([name.partition("/")[0] for name in names], return_inverse=True)
    return labels.astype(np.int64), classes.tolist()


def of_classes(folder: Path, classes: list[str]) -> tuple[str, ...]:
    """What is odd about sub-folders as classes: those without pictures, and names that differ in their case alone."""
    notices = []
    visible = {p.name for p in folder.iterdir() if p.is_dir() and not _folder_left_out(p)}
    if without := sorted(visible - set(classes)):
        notices.append(f"{folder}: sub-folders without pictures are no classes: {listed(without)}")
    folded = Counter(name.casefold() for name in classes)
    if alike := [name for name in classes if folded[name.casefold()] > 1]:
        notices.append(f"{folder}: names that differ in their case are different classes: {listed(alike)}")
    return tuple(notices)
