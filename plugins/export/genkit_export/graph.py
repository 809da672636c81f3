"""A sampler as one graph: from noise, and labels if the model knows classes, to samples."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import attrs
import torch
from torch import Tensor, nn

from genkit.denoiser import Denoiser
from genkit.errors import DataError, RecipeError
from genkit_export import model
from genkit_export.model import Model, Told

Steps = int | list[float]
NAMES = ("noise", "label")


class Sampler(nn.Module):
    """`(noise, label) -> x0`: noise (B, draws, C, H, W), unit normals; label (B,), int64, only where there are classes.

    Attributes:
        draws: How many normals of the shape of a sample each sample takes.
    """

    def __init__(self, denoiser: Denoiser, steps: Steps) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.steps, self.draws = _found_out(denoiser, steps)

    def forward(self, noise: Tensor, *label: Tensor) -> Tensor:
        cond = {"label": label[0]} if label else {}
        x0: Tensor = self.denoiser.sampler(self.denoiser, lambda j: noise[:, j], cond, self.steps)
        return x0.float()

    def inputs(self, count: int) -> tuple[Tensor, ...]:
        """Inputs of its shapes for so many samples."""
        spec = self.denoiser.spec
        noise = torch.randn(count, self.draws, *spec.shape, generator=torch.Generator().manual_seed(0))
        return (noise, torch.arange(count) % spec.classes) if spec.classes else (noise,)


def _found_out(denoiser: Denoiser, steps: Steps) -> tuple[Steps, int]:
    """The levels that a number of steps stands for, and how many normals are drawn, by sampling once.

    Samplers find levels by arithmetic on tensors, which has no place in a graph: there they are numbers.
    """
    levels: list[float] = []
    drawn: set[int] = set()

    def asked(x: Tensor, sigma: Tensor, cond: Any = None, to: Tensor | None = None) -> Tensor:
        levels.append(float(sigma[0]))
        return x

    def draw(j: int) -> Tensor:
        drawn.add(j)
        return torch.zeros(1, *denoiser.spec.shape)

    cond = {"label": torch.zeros(1, dtype=torch.int64)} if denoiser.spec.classes else {}
    denoiser.sampler(asked, draw, cond, steps)
    after_first = list(dict.fromkeys(levels))[1:]
    return (after_first if isinstance(steps, int) and steps > 1 else steps), max(drawn) + 1


def exported(model: Model, steps: Steps) -> tuple[torch.export.ExportedProgram, dict[str, str]]:
    """The sampler of a model as a program of any number of samples, and what is told of it.

    Raises:
        DataError: torch finds no graph of it.
    """
    sampler = Sampler(model.denoiser, steps).eval()
    inputs = sampler.inputs(2)
    count = torch.export.Dim("count", min=1)
    shapes = {"noise": {0: count}, **({"label": ({0: count},)} if len(inputs) > 1 else {})}
    try:
        with torch.no_grad():
            program = torch.export.export(sampler, inputs, dynamic_shapes=shapes, strict=True)
    except Exception as error:  # torch raises what it happens to come upon
        first = " ".join(str(error).split())[:300]
        raise DataError(
            model.folder, f"torch.export finds no graph of its sampler ({first})", "try --steps 1"
        ) from error
    nfe = model.denoiser.sampler.nfe(steps)
    return program, {**model.told, "steps": json.dumps(steps), "draws": str(sampler.draws), "nfe": str(nfe)}


# ---- graphs that are read again ------------------------------------------------------------------


class Held(nn.Module):
    """The weights in a graph, by the names of the network that they are of; None where it has them in no such form."""

    def __init__(self, tensors: Mapping[str, Tensor] | None, where: Path) -> None:
        super().__init__()
        self.tensors, self.where = tensors, where

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        if self.tensors is None:
            raise DataError(self.where, "is a graph, and a run starts from weights", "export them as safetensors")
        return dict(self.tensors)


class Graph(Denoiser):
    """A graph where a denoiser is expected: samples can be drawn of it, in its own number of steps, on the CPU.

    Attributes:
        steps: That number, or the levels after the first.
    """

    def __init__(
        self, call: Callable[..., Tensor], told: Told, where: Path, tensors: Mapping[str, Tensor] | None = None
    ) -> None:
        spec = model.spec_of(told, where)
        try:
            self_steps, draws, nfe = json.loads(told["steps"]), int(told["draws"]), int(told["nfe"])
        except (KeyError, ValueError) as error:
            raise DataError(where, f"tells no number of steps ({error})", "export it again") from error
        sampler = GraphSampler(call=call, steps=self_steps, draws=draws, calls=nfe, where=where)
        super().__init__(Held(tensors, where), self._refuse, spec, sampler)
        self.steps = self_steps

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """One number, which says where its noise is to be: on the CPU."""
        yield nn.Parameter(torch.zeros(()), requires_grad=False)

    def _refuse(self, *args: Any) -> NoReturn:
        hint = "export it as safetensors"
        raise DataError(self.sampler.where, "is a graph of a sampler, whose network cannot be asked alone", hint)


@attrs.frozen(kw_only=True)
class GraphSampler:
    """Samples by a graph, as a sampler of denoisers draws them."""

    call: Callable[..., Tensor]
    steps: Steps
    draws: int
    calls: int
    where: Path

    def nfe(self, steps: int | Sequence[float]) -> int:
        return self.calls

    def __call__(
        self,
        denoiser: Callable[..., Tensor],
        draw: Callable[[int], Tensor],
        cond: Mapping[str, Tensor],
        steps: int | Sequence[float],
    ) -> Tensor:
        if (steps if isinstance(steps, int) else list(steps)) != self.steps:
            own = self.steps if isinstance(self.steps, int) else ",".join(map(str, self.steps))
            what = f"is a graph of --steps {own}, not of {steps}"
            raise RecipeError(self.where, what, "genkit export makes one of other steps")
        noise = torch.stack([draw(j) for j in range(self.draws)], 1)
        return self.call(noise, *(cond[name] for name in NAMES[1:] if name in cond))
