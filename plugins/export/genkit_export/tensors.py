"""Weights as a safetensors file that tells its network, its recipe and where it comes from."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save

from genkit.data import weights
from genkit.denoiser import Denoiser
from genkit_export import model
from genkit_export.model import Model


def write(made: Model, target: Path) -> None:
    """The weights of the network, with what is told of them in the file's header."""
    target.write_bytes(save({name: tensor.contiguous() for name, tensor in made.state.items()}, made.told))


def read(path: Path) -> Denoiser:
    """The denoiser of a file of weights, of `genkit export` or `genkit weights convert`.

    Raises:
        GenkitError: It does not tell enough, or what it is made of is not installed.
    """
    told = {name: text for name, text in weights.info(path).items() if isinstance(text, str)}
    return model.rebuilt(told, weights.load(path), path)
