"""Published files with weights: which network they are of, and its tensors; nothing in them is executed.

A `.pkl` of EDM or ECT pickles objects of classes whose source code it carries. Here stand-ins take what the objects
held, and the source is dropped unread. A `.pt` is read by torch's own reader of plain tensors.
"""

from __future__ import annotations

import collections
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genkit.errors import DataError
from genkit_weights import pickles


class Stored(NamedTuple):
    """What a tensor of a pickle becomes."""

    value: Any


class Object:
    """What an object of a pickle becomes: the name of its class, and what it held."""

    kind = ""

    def __init__(self, *ignored: Any) -> None:
        self.state: Any = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state


def pickled(path: Path) -> Any:
    """The content of a `.pkl` of EDM or ECT, with `Object` and `Stored` in place of objects and tensors.

    Raises:
        DataError: It is missing or damaged, or names anything but networks, tensors and plain data.
    """
    if not path.is_file():
        raise DataError(path, "no such file", "check the path")
    with path.open("rb") as file:
        return pickles.read(file, _table(), path)


def _table() -> dict[str, Any]:
    """What stands in for the names of such pickles; new classes each time, since a pickle could change them."""
    kinds = [
        "numpy.dtype",  # scalars of numpy are among the arguments that objects remember
        *(f"torch.nn.modules.container.{name}" for name in ("ModuleDict", "ModuleList", "Sequential")),
    ]
    return {
        **{name: type("Kind", (Object,), {"kind": name.rpartition(".")[2]}) for name in kinds},
        "numpy.core.multiarray.scalar": lambda *ignored: None,
        "numpy._core.multiarray.scalar": lambda *ignored: None,
        "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
        "torch._utils._rebuild_parameter": lambda stored, *ignored: stored,
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch.storage._load_from_bytes": _storage,
        "collections.OrderedDict": collections.OrderedDict,
        "dnnlib.util.EasyDict": dict,
        "builtins.set": set,
        "_codecs.encode": lambda text, *ignored: text.encode("latin1"),  # how old protocols have bytes
    }


def _persistent(meta: Mapping[str, Any]) -> Object:
    """Of an object with its source code: class and state; the code is left alone."""
    made = Object()
    made.kind, made.state = str(meta["class_name"]), meta["state"]
    return made


def _storage(content: str | bytes) -> Stored:
    """Numbers, from the file of torch's that a pickle of a tensor has inside."""
    raw = content.encode("latin1") if isinstance(content, str) else content
    found = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    return Stored(torch.empty(0, dtype=found.dtype).set_(found))


def _tensor(storage: Stored, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *ignored: Any) -> Stored:
    flat = storage.value
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min(offset, 0, *size, *stride) < 0 or (0 not in size and last >= flat.numel()):
        raise ValueError(f"a tensor of shape {tuple(size)} is beyond its {flat.numel()} numbers")
    return Stored(flat.as_strided(tuple(size), tuple(stride), offset).clone())


def module_state(module: Any, where: object) -> dict[str, Tensor]:
    """Parameters and buffers of a pickled module, by the names that a `state_dict` has.

    Raises:
        DataError: It is no module.
    """
    return dict(_tensors(module, "", where))


def _tensors(module: Any, prefix: str, where: object) -> Iterator[tuple[str, Tensor]]:
    if not isinstance(module, Object) or not isinstance(module.state, Mapping) or prefix.count(".") > 8:
        raise DataError(where, f"has no module at {prefix or 'its top'!r}", "use a file from its authors")
    for part in ("_parameters", "_buffers"):
        for name, stored in module.state.get(part, {}).items():
            if isinstance(stored, Stored) and isinstance(stored.value, Tensor):
                yield f"{prefix}{name}", stored.value
    for name, child in module.state.get("_modules", {}).items():
        if child is not None:
            yield from _tensors(child, f"{prefix}{name}.", where)


def state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pt` or `.pth`, read by `torch.load(weights_only=True)`.

    Raises:
        DataError: It is missing, damaged, or names anything but plain data.
    """
    if not path.is_file():
        raise DataError(path, "no such file", "check the path")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError, KeyError, ... as the bytes have it
        raise DataError(path, *_refusal(error)) from error
    if not isinstance(found, Mapping) or not all(isinstance(t, Tensor) for t in found.values()):
        raise DataError(path, "is no table of tensors by name", "use the file of the network alone")
    return dict(found)


def _refusal(error: Exception) -> tuple[str, str]:
    if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"wants {named[1]}, which is not data", "nothing of it was executed; use a file from its authors"
    first = " ".join(f"{type(error).__name__}: {error}".split())[:160]
    return f"is no readable file of torch's ({first})", "copy or download it again"
