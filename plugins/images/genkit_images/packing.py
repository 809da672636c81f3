"""Packing pictures into one HDF5 file, in parallel and without holding them all."""

from __future__ import annotations

import multiprocessing
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import PIL

from genkit.data import hdf5
from genkit.errors import DataError, RecipeError
from genkit_images.arrays import Array
from genkit_images.batches import batch, rows_of
from genkit_images.crops import CROPS, Cropped, tried
from genkit_images.forms import no_folder
from genkit_images.layouts import MOST
from genkit_images.notices import refused, summary
from genkit_images.walking import classes_of, of_classes, pictures_below

BLOCK = 4096  # pictures in flight
BATCH = re.compile(r"train_data_batch_(\d+)(\.npz)?$")
HELD_OUT = re.compile(r"val_data(\.npz)?$")


def pack(
    source: Path,
    target: Path,
    size: int,
    crop: str,
    workers: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> int:
    """Write `train/images`, `train/labels` and attributes that say how; gives the number of images.

    `source` is a folder of pictures, which then have no labels; of classes, each a folder of them; or of the batches
    of the downsampled ImageNet (`train_data_batch_1`, ..., `val_data`, as pickles or .npz), whose images are taken as
    they are. `say` is told what was left out and converted.

    Raises:
        RecipeError: No such crop.
        DataError: Pictures cannot be read, the batches are of another size, or the target is there already.
    """
    if crop not in CROPS:
        raise RecipeError("--crop", f"there is no {crop!r}", f"there are {', '.join(CROPS)}")
    if target.exists():
        raise DataError(target, "is there already", "remove it, or choose another name")
    if not source.is_dir():
        raise no_folder(source)
    numbered = {int(found[1]): path for path in source.iterdir() if (found := BATCH.match(path.name))}
    batches = [numbered[i] for i in sorted(numbered)]
    with hdf5.writing(target) as file:
        told = {"size": size, "source": source.name}
        if batches:
            count = _batches(file, source, batches, size)
            told |= {"crop": "none", "filter": "that of the archive", "label_order": "that of the archive, from 0"}
        else:
            count, classes = _pictures(file, source, size, crop, workers, say)
            told |= {"crop": crop, "filter": CROPS[crop][1], "classes": classes, "pillow": PIL.__version__}
        hdf5.tell(file, told)
    return count


def _pictures(
    file: h5py.File, source: Path, size: int, crop: str, workers: int, say: Callable[[str], None]
) -> tuple[int, list[str]]:
    names, left_out = pictures_below(source)
    labels, classes = classes_of(source, names) if any("/" in name for name in names) else (None, [])
    images = _images(file, "train", size, len(names))
    errors: list[DataError] = []
    done: Counter[str] = Counter()
    with _mapping(workers) as mapped:
        for first in range(0, len(names), BLOCK):
            file.sink.require()
            jobs = [(str(source / name), crop, size) for name in names[first : first + BLOCK]]
            for i, found in enumerate(mapped(jobs), first):
                if not isinstance(found, Cropped):
                    errors.append(DataError(*found))  # and on: one list of all that is wrong
                elif not errors:
                    images[i] = found.pixels
                    done.update(found.told - {"colour"})
    if errors:
        raise refused(source, errors, len(names))
    for text in summary(source, len(names), left_out, done):
        say(text)
    if labels is not None:
        for text in of_classes(source, classes):
            say(text)
        file.create_dataset("train/labels", data=labels, fletcher32=True, chunks=True)
    return len(names), classes


def _images(file: h5py.File, group: str, size: int, count: int) -> h5py.Dataset:
    """A chunk for each image, since training reads them in any order; checksums, no compression."""
    shape = (3, size, size)
    return file.create_dataset(
        f"{group}/images", (count, *shape), np.uint8, chunks=(1, *shape), maxshape=(None, *shape), fletcher32=True
    )


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[[list[tuple[str, str, int]]], Iterable[Any]]]:
    """`tried` over jobs, in order: here, or in processes."""
    if workers == 1:
        yield lambda jobs: map(tried, jobs)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        try:
            yield lambda jobs: pool.map(tried, jobs, chunksize=32)
        except BrokenProcessPool as error:
            raise DataError("genkit data pack", "a process was ended from outside", "use fewer --workers") from error


def _batches(file: h5py.File, source: Path, paths: list[Path], size: int) -> int:
    held_out = sorted(p for p in source.iterdir() if HELD_OUT.match(p.name))
    counts = [_append(file, group, some, size) for group, some in (("train", paths), ("held_out", held_out)) if some]
    return counts[0]


def _append(file: h5py.File, group: str, paths: list[Path], size: int) -> int:
    """Batches one after the other; labels, which are 1, 2, ... there, from 0."""
    numbers: list[Array] = []
    images = _images(file, group, size, 0)
    for path in paths:
        file.sink.require()
        found, labels = _batch(path)
        if found.shape[1:] != (3, size, size):
            raise DataError(path, f"has images of {found.shape[2]}x{found.shape[3]}", f"use --size {found.shape[2]}")
        images.resize(len(images) + len(found), axis=0)
        images[-len(found) :] = found
        numbers.append(labels - 1)
    whole = np.concatenate(numbers)
    if whole.size == 0 or whole.min() < 0 or whole.max() >= max(MOST, len(whole)):
        raise DataError(paths[0], f"has no labels from 1 on, up to {MOST:,}", "use the published batches")
    file.create_dataset(f"{group}/labels", data=whole, fletcher32=True, chunks=True)
    return len(whole)


def _batch(path: Path) -> tuple[Array, Array]:
    if path.suffix != ".npz":
        with path.open("rb") as stream:
            return batch(stream, path)
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as arrays:
            found = arrays["data"], arrays["labels"]
    except Exception as error:  # OSError, ValueError, zlib.error, ... as the bytes happen to be
        cause = " ".join(f"{error}".split())[:120]
        raise DataError(path, f"is no readable batch ({cause})", "copy or download it again") from error
    return rows_of(*found, path)
