"""Weights in safetensors files: converted from elsewhere, told about, and loaded strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from genkit.errors import DataError
from genkit.hookspecs import Lazy
from genkit.kernel import discovery
from genkit.kinds import Spec, names

FOREIGN = {".pt", ".pth", ".pkl", ".ckpt", ".bin"}


class Weights(NamedTuple):
    """What a converter (hook `genkit_converters`) makes of a file: a network component, its data, its state."""

    network: Any
    spec: Spec
    state: dict[str, Tensor]


def converters() -> dict[str, Lazy]:
    """What plugins can read, by the name for `--as`."""
    offers = [offer for _, offer in discovery.installed().calls("genkit_converters")]
    return {name: Lazy(*lazy) for offer in offers for name, lazy in offer.items()}


def info(path: Path) -> dict[str, Any]:
    """What a safetensors file holds: counts, dtypes, and what its maker wrote about it.

    Raises:
        DataError: It is missing, damaged, or of another kind.
    """
    with _opened(path) as file:
        told = dict(file.metadata() or {})
        slices = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118 - it is no mapping
        shapes = [torch.Size(found.get_shape()) for found in slices]
        dtypes = sorted({found.get_dtype() for found in slices})
    return {"tensors": len(shapes), "numbers": sum(shape.numel() for shape in shapes), "dtypes": dtypes, **told}


def load(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        DataError: It is missing, damaged, or of another kind.
    """
    with _opened(path):
        return load_file(path)


def fit(network: torch.nn.Module, state: Mapping[str, Tensor], where: object) -> None:
    """Refuse weights that a network does not take exactly.

    Raises:
        DataError: A tensor is missing, surplus or of another shape; the first one is named.
    """
    hint = "use the network that the weights were made with"
    wanted = network.state_dict()
    for name, mine in wanted.items():
        if name not in state:
            raise DataError(where, f"does not fit the network: {name!r} is missing", hint)
        if state[name].shape != mine.shape:
            found, shape = tuple(state[name].shape), tuple(mine.shape)
            raise DataError(where, f"does not fit the network: {name!r} has shape {found}, not {shape}", hint)
    if surplus := sorted(set(state) - set(wanted)):
        raise DataError(where, f"does not fit the network: {surplus[0]!r} is surplus", hint)


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise DataError(path, "no such weights file", "check the path")
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        hint = "copy or download it again"
        if path.suffix in FOREIGN:
            hint = f"genkit weights convert makes one; plugins read {names(converters())}"
        raise DataError(path, f"is no readable safetensors file ({error})", hint) from error
