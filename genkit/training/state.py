"""The one mutable thing: what a training step changes, as named tensors and plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from genkit.denoiser import Program
from genkit.ema import Average
from genkit.errors import CheckpointError


@attrs.define(eq=False)
class State:
    """A program with its optimizers and its average, at step k.

    Attributes:
        optimizers: A torch optimizer for each of the program's parameter groups.
        rule: The optimizer component, for the rate at step k.
        ema: The EMA component.
        average: The running average of the student.
        k: The step to be taken next, from 0.
        bad: The first step with a non-finite loss; a device scalar, infinite if none.
    """

    program: Program
    optimizers: dict[str, torch.optim.Optimizer]
    rule: Any
    ema: Any
    average: Average
    k: int = 0
    bad: Tensor = attrs.field(factory=lambda: torch.tensor(float("inf")))

    @classmethod
    def of(cls, program: Program, optimizer: Any, ema: Any) -> State:
        """The state before step 0."""
        optimizers = {phase: optimizer.optimizer(params) for phase, params in program.groups().items()}
        for made in optimizers.values():
            for group in made.param_groups:
                group.setdefault("initial_lr", group["lr"])
        device = next(program.parameters()).device
        average = Average(program.student.network)
        return cls(program, optimizers, optimizer, ema, average, bad=torch.tensor(float("inf"), device=device))

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state, by name: `program/…`, `ema/…`, `optimizer/<group>/<parameter>/<name>`."""
        named = {f"program/{name}": t for name, t in self.program.state_dict().items()}
        named |= {f"ema/{name}": t for name, t in self.average.weights.items()}
        for phase, name, values in self._moments():
            named |= {f"optimizer/{phase}/{name}/{n}": v for n, v in values.items() if isinstance(v, Tensor)}
        return named

    def numbers(self) -> dict[str, Any]:
        """All else: k, and the optimizers' own numbers."""
        groups = {
            phase: {n: v for n, v in made.param_groups[0].items() if isinstance(v, int | float | bool)}
            for phase, made in self.optimizers.items()
        }
        plain = [
            [phase, name, n, v]
            for phase, name, values in self._moments()
            for n, v in values.items()
            if not isinstance(v, Tensor)
        ]
        return {"k": self.k, "optimizers": groups, "moments": plain}

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Continue from what `tensors` and `numbers` gave.

        Raises:
            CheckpointError: The tensors are not this program's.
        """
        of = _below(tensors, "program/")
        missing = sorted(set(self.program.state_dict()) ^ set(of))
        if missing:
            raise CheckpointError(
                "checkpoint", f"does not fit this program: {missing[0]!r} is missing or surplus", "use a new folder"
            )
        self.program.load_state_dict(of)
        self.average.load(_below(tensors, "ema/"))
        for phase, made in self.optimizers.items():
            self._restore_optimizer(phase, made, tensors, numbers)
        self.k = numbers["k"]

    def _restore_optimizer(
        self, phase: str, made: torch.optim.Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
    ) -> None:
        state: dict[int, dict[str, Any]] = {}
        for i, (name, _) in enumerate(self.program.groups()[phase]):
            state[i] = dict(_below(tensors, f"optimizer/{phase}/{name}/", deep=False))
            state[i] |= {n: v for p, m, n, v in numbers["moments"] if (p, m) == (phase, name)}
        whole = made.state_dict()
        whole["state"] = {i: values for i, values in state.items() if values}
        whole["param_groups"][0].update(numbers["optimizers"][phase])
        made.load_state_dict(whole)

    def _moments(self) -> list[tuple[str, str, dict[str, Any]]]:
        """(group, parameter name, its optimizer state), for parameters that have any."""
        found = []
        for phase, params in self.program.groups().items():
            state = self.optimizers[phase].state
            found += [(phase, name, state[p]) for name, p in params if state.get(p)]
        return found


def _below(tensors: Mapping[str, Tensor], prefix: str, deep: bool = True) -> dict[str, Tensor]:
    cut = {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
    return cut if deep else {name: t for name, t in cut.items() if "/" not in name}
