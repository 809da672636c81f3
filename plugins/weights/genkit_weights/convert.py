"""Weights from elsewhere, written as safetensors files that say which network they are for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import tomli_w
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from genkit.data import Weights, atomic, sha256
from genkit.data.weights import converters, fit
from genkit.errors import DataError, RecipeError
from genkit.kernel import registry, resolving
from genkit.kinds import Context, names


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
    if not target.parent.is_dir():
        raise DataError(target, f"cannot be written ({target.parent} is no folder)", "choose another place")
    read: Callable[[Path], Weights] = registry.imported(known[form], form)
    made = read(source)
    network = registry.build(made.network, Context(spec=made.spec, device="meta"))
    fit(network, made.state, source)
    told = {
        "network": json.dumps(resolving.plain(made.network)),
        "tables": json.dumps(dict(made.tables)),
        "spec": json.dumps(attrs.asdict(made.spec)),
        "source": source.name,
        "source_sha256": sha256(source),
        "form": form,
    }
    _save(target, made.state, told)
    return told


def recipe_of(told: Mapping[str, str]) -> str:
    """The tables that a description of converted weights gives, `[network]` and others, as TOML; empty without one."""
    others = json.loads(told.get("tables", "{}"))
    return tomli_w.dumps({**others, "network": json.loads(told["network"])}) if "network" in told else ""


def _save(target: Path, state: Mapping[str, Tensor], told: dict[str, str]) -> None:
    """Beside its place, synced, then renamed."""
    with atomic.replacing(target) as partial:
        try:
            save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, partial, told)
        except SafetensorError as error:
            raise atomic.unwritable(target, error) from error
        with partial.open("rb") as written:
            os.fsync(written.fileno())
