"""A sampler as an ONNX graph."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genkit.denoiser import Denoiser
from genkit.errors import DataError
from genkit_export import graph, model
from genkit_export.model import Model


def write(made: Model, target: Path, steps: graph.Steps) -> None:
    """The graph, with what is told of it among its properties.

    Raises:
        PluginError: Packages of ONNX are not installed.
        DataError: The sampler has no graph.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise model.needed("onnx and onnxscript", "onnx", error) from error
    program, told = graph.exported(made, steps)
    names = list(graph.NAMES[: len(program.graph_signature.user_inputs)])
    with _quiet():
        found = torch.onnx.export(program, dynamo=True, input_names=names, output_names=["images"], verbose=False)
    assert found is not None
    found.model.metadata_props.update(told)
    found.save(target)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of its progress; what it raises is told."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(before)


def read(path: Path) -> Denoiser:
    """The graph as a denoiser that can be sampled, by onnxruntime on the CPU.

    Raises:
        PluginError: onnxruntime is not installed.
        DataError: It is none of `genkit export`, or damaged.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise model.needed("onnxruntime", "onnx", error) from error
    try:
        session = onnxruntime.InferenceSession(str(path), _options(onnxruntime), providers=["CPUExecutionProvider"])
        told = dict(session.get_modelmeta().custom_metadata_map)
    except Exception as error:  # of many kinds of its own
        cause = " ".join(str(error).split())[:160]
        raise DataError(path, f"is no graph that onnxruntime reads ({cause})", "export it again") from error

    def call(*inputs: Tensor) -> Tensor:
        given: dict[str, Any] = {name: x.numpy() for name, x in zip(graph.NAMES, inputs, strict=False)}
        (x0,) = session.run(None, given)
        return torch.from_numpy(np.asarray(x0))

    return model.described(graph.Graph(call, told, path), model.recipe_of(told, path))


def _options(onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return options
