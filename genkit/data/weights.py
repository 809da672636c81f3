"""Weights in safetensors files: converted from elsewhere, told about, and loaded strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
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
    """What a converter (hook `genkit_converters`) makes of a file: a network component, its data, its state.

    `tables` are others that a recipe needs beside `[network]`, such as {"levels": {"sigma_min": 0.003}}.
    """

    network: Any
    spec: Spec
    state: dict[str, Tensor]
    tables: Mapping[str, Any] = MappingProxyType({})


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


def unwrapped(network: torch.nn.Module, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Weights without what a wrapper put before every name, such as `module.`, if the rest fits; and that prefix."""
    wanted = network.state_dict()
    prefix = min(state, default="").removesuffix(min(wanted, default=""))  # the least stays the least behind a prefix
    if not prefix or {prefix + name for name in wanted} != set(state):
        return state, ""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}, prefix


def fit(network: torch.nn.Module, state: Mapping[str, Tensor], where: object) -> None:
    """Refuse weights that a network does not take exactly, whatever their dtype.

    Raises:
        DataError: A tensor is missing, surplus, of another shape or not finite; the first one is named.
    """
    if wrong := misfit(described(network.state_dict(), dtype=False), described(state, dtype=False)):
        raise DataError(where, f"does not fit the network: {wrong}", "use the network that the weights were made with")
    if name := not_finite({name: state[name] for name, _ in network.named_parameters()}):
        raise DataError(where, f"{name!r} holds NaN or infinite numbers", "use weights from before that happened")


def described(tensors: Mapping[str, Tensor], dtype: bool = True) -> dict[str, str]:
    """Shape and dtype of each tensor, for `misfit`: "(3, 4) float32"."""
    return {n: f"{tuple(t.shape)}" + f" {t.dtype}".replace("torch.", "") * dtype for n, t in tensors.items()}


def misfit(wanted: Mapping[str, str], found: Mapping[str, str]) -> str:
    """The first thing in which descriptions differ, in words; empty if they do not."""
    for name, mine in wanted.items():
        if name not in found:
            return f"{name!r} is missing"
        if found[name] != mine:
            return f"{name!r} has shape {found[name]}, not {mine}"
    return next((f"{name!r} is surplus" for name in sorted(found) if name not in wanted), "")


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of the first tensor with a number that is not finite; empty if there is none."""
    return next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), "")


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
