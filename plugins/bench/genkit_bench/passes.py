"""The floor of a step: the passes of its networks, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as everywhere

from genkit.denoiser import Denoiser, Program, jvp


class Pass(NamedTuple):
    """A network's call, as a step made it."""

    network: nn.Module
    x: Tensor
    c: Tensor
    cond: Mapping[str, Tensor]
    graded: bool
    forward_mode: bool
    autocast: torch.dtype | None


Passes = list[Pass | None]  # None stands for a backward pass


def is_network(module: nn.Module, given: tuple[Any, ...]) -> bool:
    """Whether a module is called as networks are, (x, c_noise, cond), and is no denoiser."""
    return len(given) == 3 and isinstance(given[2], Mapping) and not isinstance(module, Denoiser)


@contextmanager
def heard(begins: Callable[[nn.Module, tuple[Any, ...]], None], ends: Callable[[], object]) -> Iterator[None]:
    """Have each call of a network told, wherever it is held; those within another network's, too."""

    def before(module: nn.Module, given: tuple[Any, ...]) -> None:
        if is_network(module, given):
            begins(module, given)

    def after(module: nn.Module, given: tuple[Any, ...], out: object) -> None:
        if is_network(module, given):
            ends()

    begin = everywhere.register_module_forward_pre_hook(before)
    end = everywhere.register_module_forward_hook(after, always_call=True)
    try:
        yield
    finally:
        begin.remove()
        end.remove()


@contextmanager
def recorded() -> Iterator[Passes]:
    """The network's passes of what is done meanwhile, in their order; all runs uncompiled.

    A pass within another, or within a backward pass, which repeats it for lack of memory, is that one's own affair.
    """
    found: Passes = []
    within: list[str] = []
    plain = Tensor.backward

    def begins(network: nn.Module, given: tuple[Any, ...]) -> None:
        if not within:
            found.append(_as_made(network, *given))
        within.append("network")

    def backward(tensor: Tensor, *given: Any, **more: Any) -> None:
        within.append("backward")
        plain(tensor, *given, **more)  # type: ignore[no-untyped-call]
        within.pop()
        found.append(None)

    eager, ours = torch.compiler.set_stance("force_eager"), mock.patch.object(Tensor, "backward", backward)
    with eager, ours, heard(begins, within.pop):
        yield found


def _as_made(network: nn.Module, x: Tensor, c: Tensor, cond: Mapping[str, Tensor]) -> Pass:
    moving = any(forward_ad.unpack_dual(t).tangent is not None for t in (x, c))  # type: ignore[no-untyped-call]
    if moving:  # within a transform, whose tensors do not outlive it: others of their shape take as long
        x, c = (torch.randn(t.shape, dtype=t.dtype, device=t.device) for t in (x, c))
    else:
        x, c = (t.detach().clone().requires_grad_(t.requires_grad) for t in (x, c))
    kind = x.device.type
    cast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    return Pass(network, x, c, dict(cond), torch.is_grad_enabled(), moving, cast)


def replay(program: Program, passes: Passes, compiled: bool | str) -> Callable[[], None]:
    """A call that makes the same passes again, gradients among them, with what they need at hand.

    Args:
        compiled: Whether networks are compiled, or in which mode, as those of the program are.
    """
    calls = {one.network: _callable(one.network, compiled) for one in passes if one}

    def again() -> None:
        program.zero_grad()
        pending: list[Tensor] = []
        for one in passes:
            if one is None:
                torch.autograd.backward(pending, [torch.ones_like(out) for out in pending])
                pending = []
            elif (out := _call(calls[one.network], one)).requires_grad:
                pending.append(out)

    return again


def _callable(network: nn.Module, compiled: bool | str) -> Callable[..., Tensor]:
    return torch.compile(network, mode=compiled if isinstance(compiled, str) else None) if compiled else network


def _call(network: Callable[..., Tensor], one: Pass) -> Tensor:
    cast = torch.autocast(one.x.device.type, one.autocast, enabled=one.autocast is not None)
    with torch.set_grad_enabled(one.graded), cast:
        if one.forward_mode:
            along = (torch.ones_like(one.x), torch.ones_like(one.c))
            return jvp(lambda x, c: network(x, c, one.cond), (one.x, one.c), along)[0]
        return network(one.x, one.c, one.cond)
