"""Weights in safetensors files: converted from elsewhere, told about, and loaded strictly."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import tomli_w
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from genkit.data import files
from genkit.errors import DataError, RecipeError
from genkit.hookspecs import Lazy
from genkit.kernel import discovery, registry, resolving
from genkit.kinds import Context, Spec, names

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


def convert(source: Path, target: Path, form: str) -> dict[str, str]:
    """Write weights from elsewhere as safetensors, with a description of their network; gives that description.

    The network is built and has to take the weights exactly before anything is written.

    Raises:
        RecipeError: No plugin reads that form, or the target is no .safetensors file.
        DataError: The file is not of that form, damaged, or has tensors that its network does not take.
    """
    known = converters()
    if form not in known:
        raise RecipeError("--as", f"nothing reads {form!r}", f"there are {names(known)}")
    if target.suffix != ".safetensors":
        raise RecipeError(target, "is no .safetensors file", "give it that ending")
    if not source.is_file():
        raise DataError(source, "no such file", "check the path")
    read: Callable[[Path], Weights] = registry.imported(known[form], form)
    made = read(source)
    network = registry.build(made.network, Context(spec=made.spec, device="meta"))
    fit(network, made.state, source)
    told = {
        "network": json.dumps(resolving.plain(made.network)),
        "spec": json.dumps(attrs.asdict(made.spec)),
        "source": source.name,
        "source_sha256": files.sha256(source),
        "form": form,
    }
    _save(target, made.state, told)
    return told


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


def recipe_of(told: Mapping[str, str]) -> str:
    """The `[network]` table that a description of converted weights gives, as TOML; empty without one."""
    return tomli_w.dumps({"network": json.loads(told["network"])}) if "network" in told else ""


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


def _save(target: Path, state: Mapping[str, Tensor], told: dict[str, str]) -> None:
    """Beside its place, synced, then renamed."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, partial, told)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(target)
    except (OSError, SafetensorError) as error:
        raise DataError(target, f"cannot be written ({error})", "choose another place") from error
    finally:
        partial.unlink(missing_ok=True)


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
