"""Images a second of data sets larger than memory, seconds until their first batch, and what they hold.

    OMP_NUM_THREADS=1 python benchmarks/data.py [--images 1300000] [--pictures 20000] [--folder DIR] [--json FILE]

Makes what it reads, below DIR, and removes it. `hdf5` is as `genkit data pack` writes it: images of 64x64 in colour, a
block of random ones over and over, each with its number in its first bytes, so that all differ and none can be packed.
`zip`, `tar` and `folder` hold PNG files of smooth pictures, of some 8 KB; 1,024 of them come again under other names.

- per core: images for each second of CPU time of the process that reads, in a training's order, in batches of 512.
- before: the same of h5py's list indexing, with the file opened for each batch; in turns with the other, so that a busy
  machine slows both. Of pictures: what Pillow alone takes, of bytes in memory.
- first, again: seconds from nothing to the first batch, with one process that reads: the first time, in which all is
  read through, and once the data set is known.
- waits: share of the time that a training waits which takes 1,900 images a second, across the turn of an epoch, with
  two processes that read.
- growth: bytes that a second pass over all images adds to what the process holds.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import platform
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from PIL import Image

from genkit.cli import show
from genkit.data import batches, hdf5
from genkit.keys import Key, order
from genkit.kinds import Setup
from genkit_images.folder import ImageFolder
from genkit_images.hdf5 import Hdf5
from genkit_images.packing import _images

SIDE, NEEDED = 64, 1900  # images a second that one H100 takes of CIFAR's iCT
SHAPE = (3, SIDE, SIDE)
BLOCK = 4096
PICTURES = 1024


# ---- made for it ---------------------------------------------------------------------------------


def packed(path: Path, count: int) -> Path:
    block = np.random.default_rng(0).integers(0, 256, (BLOCK, *SHAPE), np.uint8)
    with hdf5.writing(path) as file:
        images = _images(file, "train", SIDE, count)
        for start in range(0, count, BLOCK):
            some = block[: count - start]
            stamps = np.arange(start, start + len(some), dtype="<i8")
            some.reshape(len(some), -1)[:, :8] = stamps.view(np.uint8).reshape(-1, 8)
            images[start : start + len(some)] = some
    return path


def pictures(count: int) -> Iterator[tuple[str, bytes]]:
    random = np.random.default_rng(1)
    kept: list[bytes] = []
    for i in range(count):
        if i < PICTURES:
            coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8)).resize((SIDE, SIDE), Image.BICUBIC)
            fine = np.asarray(coarse).astype(np.int64) + random.integers(-4, 5, (SIDE, SIDE, 3))
            Image.fromarray(fine.clip(0, 255).astype(np.uint8)).save(buffer := io.BytesIO(), format="PNG")
            kept.append(buffer.getvalue())
        yield f"{i // 1000:05}/img{i:08}.png", kept[i % PICTURES]


def zipped(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def tarred(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def folder(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    for name, content in members:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


# ---- measured ------------------------------------------------------------------------------------


def per_core(seconds: float, count: int, batch: int, *readers: Callable[[torch.Tensor], Any]) -> list[float]:
    """Images for each CPU second of readers that take turns, each with batches of its own."""
    spent, read, until = [0.0] * len(readers), [0] * len(readers), time.monotonic() + seconds * len(readers)
    for k in itertools.count():
        reader = k % len(readers)
        if time.monotonic() > until and reader == 0 and k:
            return [n / s for n, s in zip(read, spent, strict=True)]
        indices = chosen(count, batch, k)
        begun = time.process_time()
        readers[reader](indices)
        spent[reader] += time.process_time() - begun
        read[reader] += batch
    raise AssertionError


def by_list(path: Path) -> Callable[[torch.Tensor], Any]:
    """The reader of before."""

    def read(indices: torch.Tensor) -> torch.Tensor:
        rows, back = torch.unique(indices, return_inverse=True)
        with hdf5.opened(path) as file:
            return torch.from_numpy(hdf5.read(hdf5.array(file, "train/images"), rows.numpy()))[back]

    return read


def by_pillow(data: Any) -> Callable[[torch.Tensor], Any]:
    """Pillow alone, of files that are in memory."""
    files = [data.rows.members.read(i) for i in range(min(len(data), PICTURES))]
    return lambda indices: [np.asarray(Image.open(io.BytesIO(files[i % len(files)]))) for i in indices.tolist()]


def first_batch(build: Callable[..., Any], batch: int) -> float:
    begun = time.monotonic()
    stream = batches(build(workers=1), 0, 0, batch)
    next(stream)
    took = time.monotonic() - begun
    stream.close()
    return took


def waits(data: Any, seconds: float, batch: int) -> float:
    """Share of the time that is spent waiting, from some steps before the turn of an epoch to some after it."""
    steps = max(4, round(seconds * NEEDED / batch))
    stream = data.ahead(partial(chosen, len(data), batch), max(0, len(data) // batch - steps // 2))
    for _ in range(4):  # until the processes are there and have read what they read ahead
        next(stream)
        time.sleep(batch / NEEDED)
    waited, begun = 0.0, time.monotonic()
    for _ in range(steps):
        time.sleep(batch / NEEDED)
        since = time.monotonic()
        next(stream)
        waited += time.monotonic() - since
    took = time.monotonic() - begun
    stream.close()
    return waited / took


def chosen(count: int, batch: int, k: int) -> torch.Tensor:
    return order(0, k * batch, batch, count)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth(data: Any, batch: int) -> int:
    """Bytes that this process holds more after a second pass over all images than after the first."""
    held = []
    for epoch in range(2):
        for start in range(0, len(data), batch):
            data.batch(order(epoch, start, min(batch, len(data) - start), len(data)), Key(0))
        held.append(resident())
    return held[1] - held[0]


def measured(name: str, path: Path, cache: Path, seconds: float, batch: int) -> dict[str, Any]:
    settings = {"path": path, "max_gib": 0} | ({} if name == "hdf5" else {"held_out": 0.0})

    def build(workers: int) -> Any:
        component = (Hdf5 if name == "hdf5" else ImageFolder)(**settings, workers=workers)
        return component.build(Setup(cache_dir=cache))

    first, again = first_batch(build, batch), first_batch(build, batch)
    data = build(workers=2)
    before = by_list(path) if name == "hdf5" else by_pillow(data)
    rate, beside = per_core(seconds, len(data), batch, lambda indices: data.batch(indices, Key(0)), before)
    told = {"images": len(data), "per_core": rate, "before": beside}
    return {
        **told,
        "first": first,
        "again": again,
        "waits": waits(data, seconds, batch),
        "growth_bytes": growth(data, batch),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_300_000, help="of the HDF5 file, 12 KB each")
    parser.add_argument("--pictures", type=int, default=20_000, help="of each archive and of the folder")
    parser.add_argument("--seconds", type=float, default=10.0, help="that each reader is measured for")
    parser.add_argument("--batch", type=int, default=512, help="images that are read at a time")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where all of it is made")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="genkit-data-") as made:
        here = Path(made)
        makers: dict[str, Callable[[], Path]] = {
            "hdf5": lambda: packed(here / "images.h5", given.images),
            "zip": lambda: zipped(here / "images.zip", pictures(given.pictures)),
            "tar": lambda: tarred(here / "images.tar", pictures(given.pictures)),
            "folder": lambda: folder(here / "images", pictures(given.pictures)),
        }
        for name, make in makers.items():
            print(f"{name} …", file=sys.stderr)
            found[name] = measured(name, make(), here / "cache", given.seconds, given.batch)
    begun = time.monotonic()
    torch.randperm(given.images)
    turn = time.monotonic() - begun
    head = ["source", "images", "per core", "before", "first", "again", "waits", "growth"]
    rows = [[n, *(shown(f[key]) for key in f)] for n, f in found.items()]
    show.table([head, *rows])
    print(f"a permutation of {given.images:,}: {1000 * turn:.0f} ms, in the processes that read")
    if given.json:
        versions = {"torch": torch.__version__, "h5py": h5py.__version__, "python": platform.python_version()}
        machine = {"machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
        told = {"command": sys.argv, **versions, **machine, "permutation_sec": turn, "sources": found}
        given.json.write_text(json.dumps(told, indent=1))


def shown(value: float) -> str:
    return f"{value:,.0f}" if isinstance(value, int) or value >= 100 else f"{value:.3f}"


if __name__ == "__main__":
    main()
