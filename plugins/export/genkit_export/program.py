"""A sampler as a program of torch.export, a `.pt2`."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch

from genkit.denoiser import Denoiser
from genkit.errors import DataError
from genkit_export import graph, model
from genkit_export.model import Model

NOTE = "genkit.json"  # within the archive
_PREFIX = "denoiser.network."


def write(made: Model, target: Path, steps: graph.Steps) -> None:
    """The program, with what is told of it."""
    program, told = graph.exported(made, steps)
    torch.export.save(program, target, extra_files={NOTE: json.dumps(told)})


def read(path: Path) -> Denoiser:
    """The program as a denoiser that can be sampled. It runs as torch wrote it: read those of people you trust.

    Raises:
        DataError: It is none of `genkit export`, or damaged.
    """
    notes = {NOTE: ""}
    try:
        with warnings.catch_warnings(action="ignore"):  # of older torch, at weights that it does not change
            program = torch.export.load(path, extra_files=notes)
        told = json.loads(notes[NOTE])
    except Exception as error:  # whatever its bytes ask for
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise DataError(path, f"is no program of genkit export ({cause})", "export it again") from error
    tensors = {n.removeprefix(_PREFIX): t for n, t in program.state_dict.items() if n.startswith(_PREFIX)}
    return model.described(graph.Graph(program.module(), told, path, tensors), model.recipe_of(told, path))
