"""Exported models, read again by what their file or folder is."""

from __future__ import annotations

from pathlib import Path

from genkit.data.weights import FOREIGN
from genkit.denoiser import Denoiser
from genkit.errors import DataError
from genkit.kinds import names
from genkit_export import diffusers_folder, hub, onnx_graph, program, tensors

_FILES = {".safetensors": tensors.read, ".pt2": program.read, ".onnx": onnx_graph.read}


def opened(path: Path) -> Denoiser | None:
    """The denoiser of a file or folder that was exported; None where there is none.

    Raises:
        GenkitError: It cannot be read, or is of a form that is to be converted first.
    """
    if (path / hub.WEIGHTS).is_file():
        return tensors.read(path / hub.WEIGHTS)
    if (path / diffusers_folder.INDEX).is_file():
        return diffusers_folder.read(path)
    if not path.is_file():
        return None
    if path.suffix not in _FILES:
        raise DataError(path, "is no .safetensors file", f"genkit weights convert makes one of {names(FOREIGN)}")
    return _FILES[path.suffix](path)
