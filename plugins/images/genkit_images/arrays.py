"""From decoded arrays to data sets: where files are, what their content is, how it is served."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genkit.data import Resident, hdf5
from genkit.kinds import Data, Setup, Spec

Array = np.ndarray[Any, Any]
BLOCK = 1024


def located(path: str | Path, setup: Setup) -> Path:
    """A path as the user means it: `~` is home, relative paths start from the recipe's folder."""
    path = Path(path).expanduser()
    return path if path.is_absolute() or setup.folder is None else setup.folder / path


def blocks(images: Array) -> Iterator[Array]:
    """Images in runs of `BLOCK`."""
    return (images[i : i + BLOCK] for i in range(0, len(images), BLOCK))


def identity(images: Iterable[Array], labels: Array | None) -> str:
    """What the samples are, whatever holds them: a hash over the hashes of blocks of images, and labels.

    Block by block, so that an array that never fits into memory has the same identity as when it does.

    Args:
        images: uint8 (n, C, H, W), `BLOCK` images each and the rest last.
        labels: int64 (N,), or None where they are not used.
    """
    hashes = "".join(hdf5.content(block) for block in images)
    return hdf5.content(np.frombuffer(hashes.encode(), np.uint8), labels)


def resident(
    images: Array,
    labels: Array | None,
    spec: Spec,
    setup: Setup,
    held_out: Data | None = None,
    notices: tuple[str, ...] = (),
) -> Resident:
    """Images (N, C, H, W) and labels (N,) on the device, with their identity."""
    cond = {} if labels is None else {"label": torch.from_numpy(labels).to(setup.device)}
    return Resident(
        x=torch.from_numpy(images).to(setup.device),
        spec=spec,
        identity=identity(blocks(images), labels),
        cond=cond,
        held_out=held_out,
        notices=notices,
    )
