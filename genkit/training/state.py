"""The one mutable thing: what a training step changes, as named tensors and plain numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from genkit.data.weights import described, misfit, not_finite
from genkit.denoiser import Program
from genkit.ema import Average, floats
from genkit.errors import CheckpointError
from genkit.training import processes

OTHER = "use another checkpoint, or a new folder"


@attrs.define(eq=False)
class State:
    """A program with its optimizers and its averages, at step k.

    Attributes:
        optimizers: A torch optimizer for each of the program's parameter groups.
        rule: The optimizer component, for the rate at step k.
        averages: The running averages of the student: "ema", that of the table [ema], and further ones by their names.
        calls: What is called in each phase: the program, `processes.shared`.
        k: The step to be taken next, from 0.
        bad: The first step with a non-finite loss; a device scalar, infinite if none.
        scaler: By what losses are scaled under fp16, lest small gradients vanish.
        micro_batch: How many samples fit at a time, where `train.micro_batch` is "auto" and that is found out.
    """

    program: Program
    optimizers: dict[str, torch.optim.Optimizer]
    rule: Any
    averages: dict[str, Average]
    calls: dict[str, nn.Module]
    k: int = 0
    bad: Tensor = attrs.field(factory=lambda: torch.tensor(float("inf")))
    scaler: GradScaler = attrs.field(factory=lambda: GradScaler("cpu"))
    micro_batch: int | None = None

    @classmethod
    def of(cls, program: Program, optimizer: Any, ema: Any, averages: Mapping[str, Any] | None = None) -> State:
        """The state before step 0.

        Args:
            ema: The EMA component of the average that is sampled if nothing else is said.
            averages: Those of further ones, by name.
        """
        groups = program.groups()
        optimizers = {phase: optimizer.optimizer(params) for phase, params in groups.items()}
        calls = {phase: processes.shared(program, [p for _, p in params]) for phase, params in groups.items()}
        for made in optimizers.values():
            for group in made.param_groups:
                group.setdefault("initial_lr", group["lr"])
        bad = torch.tensor(float("inf"), device=next(program.parameters()).device)
        rules = {"ema": ema, **(averages or {})}
        averaged = {name: Average(program.student.network, rule) for name, rule in rules.items()}
        return cls(program, optimizers, optimizer, averaged, calls, bad=bad, scaler=GradScaler(bad.device.type))

    @property
    def average(self) -> Average:
        """The average that the table [ema] is of."""
        return self.averages["ema"]

    def sampled(self, weights: str = "ema") -> AbstractContextManager[nn.Module]:
        """The student's network in eval mode with the weights of an average, or "raw"; all is as before afterwards."""
        return self.averages["ema" if weights == "raw" else weights].swapped(weights != "raw")

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state, by name: `program/…`, `optimizer/<group>/<parameter>/<name>` and, of averages,
        `ema/…` and `averages/<name>/…`.
        """
        named = {f"program/{name}": t for name, t in self.program.state_dict().items()}
        for which, average in self.averages.items():
            named |= {place(which) + name: t for name, t in average.weights.items()}
        return named | {name: v for name, v in self._moments().items() if isinstance(v, Tensor)}

    def numbers(self) -> dict[str, Any]:
        """All else: k, the optimizers' own numbers, and what `tensors` gives, described."""
        plain = {name: v for name, v in self._moments().items() if not isinstance(v, Tensor)}
        groups = {phase: self._groups(phase) for phase in self.optimizers}
        told = {"k": self.k, "optimizers": groups, "moments": plain, "tensors": described(self.tensors())}
        return {**told, "scaler": self.scaler.state_dict()}

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], where: object = "checkpoint") -> None:
        """Continue from what `tensors` and `numbers` gave; all is looked at before anything is loaded.

        Raises:
            CheckpointError: They are not those of this program and these optimizers, or numbers are not finite.
        """
        require_fit(self.program, tensors, where, self.averages)
        try:
            if type(k := numbers["k"]) is not int:
                raise TypeError(f"k is {k!r}")
            states = {phase: self._optimizer_state(phase, tensors, numbers) for phase in self.optimizers}
            scaler = {**self.scaler.state_dict(), **numbers.get("scaler", {})}  # which older ones lack
            if not all(0 <= float(value) < float("inf") for value in scaler.values()):
                raise ValueError(f"the scaler's numbers are {scaler}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else error
            raise CheckpointError(where, f"does not fit this training: {what}", OTHER) from error
        if name := not_finite({name: t for name, t in tensors.items() if name.startswith("optimizer/")}):
            raise CheckpointError(where, f"{name!r} holds NaN or infinite numbers", OTHER)
        self.program.load_state_dict(below(tensors, "program/"))
        for name, average in self.averages.items():
            average.load(below(tensors, place(name)))
        for phase, made in self.optimizers.items():
            made.load_state_dict(states[phase])
        self.scaler.load_state_dict(scaler)
        self.k = k

    def _groups(self, phase: str) -> list[dict[str, Any]]:
        """The numbers of a torch optimizer's parameter groups, each with the names of its parameters."""
        names = {p: name for name, p in self.program.groups()[phase]}
        return [
            {n: v for n, v in g.items() if isinstance(v, int | float)} | {"params": [names[p] for p in g["params"]]}
            for g in self.optimizers[phase].param_groups
        ]

    def _optimizer_state(self, phase: str, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> dict[str, Any]:
        """What the optimizer of a phase loads: each parameter's moments and its group's numbers, found by name.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: They are not there, or not what they should be.
        """
        said, groups, moments = numbers["optimizers"][phase], self._groups(phase), numbers["moments"]
        if isinstance(said, dict):  # format 1, with the numbers of the first group alone, and no list of tensors
            said = [said | {"params": groups[0]["params"]}, *groups[1:]]
            moments = {f"optimizer/{phase}/{name}/{n}": v for phase, name, n, v in moments}
            self._require_alike(phase, tensors)
        elif wrong := misfit(numbers["tensors"], described(tensors)):
            raise ValueError(wrong)
        whole = {**self.optimizers[phase].state_dict(), "state": {}}
        for group, mine in zip(whole["param_groups"], groups, strict=True):
            told: dict[str, Any] = next((g for g in said if set(mine["params"]) <= set(g["params"])), {})
            if not told:
                raise ValueError(f"{mine['params'][0]!r} is in another group than before")
            group.update({"lr": told["lr"], "initial_lr": told["initial_lr"], **told, "params": group["params"]})
            if not all(isinstance(group[n], int | float) for n in mine if n != "params"):
                raise TypeError(f"the optimizer's numbers are {told}")
            for index, name in zip(group["params"], mine["params"], strict=True):
                values = below({**tensors, **moments}, f"optimizer/{phase}/{name}/")
                whole["state"] |= {index: values} if values else {}
        return whole

    def _require_alike(self, phase: str, tensors: Mapping[str, Tensor]) -> None:
        """Refuse moments that differ in kind from parameter to parameter; one without a gradient has had none."""
        kept = [(p, below(tensors, f"optimizer/{phase}/{name}/")) for name, p in self.program.groups()[phase]]
        kinds = {frozenset((n, t.shape == p.shape) for n, t in held.items()) for p, held in kept if p.dim()}
        cast = any(t.dim() and t.dtype != p.dtype for p, held in kept for t in held.values())
        surplus = len(below(tensors, f"optimizer/{phase}/")) > sum(len(held) for _, held in kept)
        if cast or surplus or len(kinds - {frozenset()}) != 1:
            raise ValueError(f"tensors of its optimizer ({phase}) are missing, surplus, or of another shape or dtype")

    def _moments(self) -> dict[str, Any]:
        """What the optimizers keep of each parameter, `optimizer/<group>/<parameter>/<name>`."""
        return {
            f"optimizer/{phase}/{name}/{n}": value
            for phase, params in self.program.groups().items()
            for name, p in params
            for n, value in self.optimizers[phase].state.get(p, {}).items()
        }


def place(average: str) -> str:
    """What the names of an average's tensors begin with."""
    return "ema/" if average == "ema" else f"averages/{average}/"


def require_fit(program: Program, tensors: Mapping[str, Tensor], where: object, averages: Iterable[str]) -> None:
    """Refuse a checkpoint whose weights, those of the program and the averaged ones, are not this program's.

    Raises:
        CheckpointError: One is missing, surplus, of another shape or dtype, or not finite; the first one is named.
    """
    network, places = program.student.network, [place(name) for name in averages]
    own = {f"program/{name}": t for name, t in program.state_dict().items()}
    own |= {start + name: t for start in places for name, t in floats(network).items()}
    found = {name: t for name, t in tensors.items() if not name.startswith("optimizer/")}
    if wrong := misfit(described(own), described(found)):
        raise CheckpointError(where, f"does not fit this program: {wrong}", OTHER)
    buffers = {f"program/{name}" for name, _ in program.named_buffers()}
    buffers |= {start + name for start in places for name, _ in network.named_buffers()}
    if name := not_finite({name: t for name, t in found.items() if name not in buffers}):
        raise CheckpointError(where, f"{name!r} holds NaN or infinite numbers", OTHER)


def below(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Those whose names begin with a prefix, without it."""
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
