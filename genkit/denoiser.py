"""A network with its scalings (`Denoiser`), its derivative (`jvp`), and what an objective trains (`Program`)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from genkit.errors import RecipeError
from genkit.keys import Key
from genkit.levels import expand


class Scalings(NamedTuple):
    """The four coefficients of a parameterization, (B,) each; c_noise may be (B, K)."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


class Denoiser(nn.Module):
    """D(x, sigma) = c_skip x + c_out F(c_in x, c_noise), at float32 or better.

    `network` stays the bare module; `compile` puts a compiled callable beside it, which the
    student's and the teacher's pass share (compiled and eager dropout differ under one seed).

    Attributes:
        spec: The shape of its samples, where it shall be sampled.
        sampler: How it is sampled: `genkit.kinds.Sampler`.
        objective: The component that trained it, which says what it predicts; None where that is not known.
    """

    objective: Any = None

    def __init__(
        self, network: nn.Module, parameterization: Callable[..., Scalings], spec: Any = None, sampler: Any = None
    ) -> None:
        super().__init__()
        self.network = network
        self.parameterization = parameterization
        self.spec, self.sampler = spec, sampler
        self._call: Callable[..., Tensor] = network.__call__

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the network; its parameters and their names stay as they are."""
        self._call = torch.compile(self.network, *args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Denoiser:
        copied = Denoiser(copy.deepcopy(self.network, memo), self.parameterization, self.spec, self.sampler)
        copied.objective = self.objective
        return copied

    def forward(
        self, x: Tensor, sigma: Tensor, cond: Mapping[str, Tensor] | None = None, to: Tensor | None = None
    ) -> Tensor:
        """Clean data as the model sees them.

        Args:
            x: Noisy data (B, C, H, W).
            sigma: Their levels (B,).
            cond: Conditioning tensors, first axis B.
            to: Target levels (B,), for models of two times.
        """
        scalings = self.parameterization(sigma, to)
        c_skip, c_out, c_in = (expand(c, x) for c in scalings[:3])
        out = self._call(c_in * x, scalings.c_noise, cond or {})
        return c_skip * x + c_out * out.to(torch.promote_types(x.dtype, torch.float32))

    def features(
        self, x: Tensor, sigma: Tensor, cond: Mapping[str, Tensor] | None = None, to: Tensor | None = None
    ) -> list[Tensor]:
        """What the network makes of noisy data on its way, for a critic to look at.

        Args are those of a call. The network runs uncompiled, and no further than it has to.

        Returns:
            (B, C', H', W') each, from the finest to the coarsest.

        Raises:
            RecipeError: The network has no such thing.
        """
        features: Callable[..., list[Tensor]] | None = getattr(self.network, "features", None)
        if features is None:
            raise RecipeError(
                "network", f"{type(self.network).__name__} tells no features", "use one that has `features`"
            )
        scalings = self.parameterization(sigma, to)
        return features(expand(scalings.c_in, x) * x, scalings.c_noise, cond or {})


def jvp(function: Callable[..., Tensor], at: tuple[Tensor, ...], along: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """function(*at), and its derivative along a direction: the sum over i of (d function / d at[i]) along[i].

    It is `torch.func.jvp` with attention by the kernel that has a forward mode (MATH), whose memory grows with the
    square of the pixels; compiled networks run uncompiled.

    The value is that of a plain call under the same `key.reseeded`, to rounding. Not so where that call is compiled:
    its masks are others, so take value and derivative from one call of this. Under autocast the derivative is as coarse
    as the value; within `torch.autocast(..., enabled=False)` both are float32.

    Args:
        function: Of as many tensors as `at` has, to one tensor.
        at: Where. Gradients flow through both results; detach what shall have none.
        along: A direction for each of them, of its shape; zeros for one that stays.
    """
    own = tuple(x.clone() for x in at)  # what `expand` gave shares memory, and torch refuses that
    math = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with math, torch.compiler.set_stance("force_eager"), warnings.catch_warnings(), _norms():
        warnings.filterwarnings("ignore", "`torch.jit.script")  # which torch's own rules of forward mode still use
        return torch.func.jvp(function, own, along)  # type: ignore[return-value]


class _PlainNorms(TorchFunctionMode):
    """Group norms in plain order of memory, and on a CPU in float32; their results as they would have been."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not nn.functional.group_norm:
            return func(*args, **(kwargs or {}))
        x, half = args[0], args[0].is_cpu and args[0].dtype in (torch.bfloat16, torch.float16)
        made = func(x.contiguous().float() if half else x.contiguous(), *args[1:], **(kwargs or {}))
        made = made.to(x.dtype) if half else made
        return made if x.is_contiguous() else made.movedim(1, -1).contiguous().movedim(-1, 1)


_norms = _PlainNorms if torch.__version__ < "2.14" else nullcontext  # which derives them in any order and precision


class Loss(NamedTuple):
    """One value per sample, (B,), and figures: device scalars by name, for people to look at."""

    values: Tensor
    figures: Mapping[str, Tensor | float] = MappingProxyType({})


class Program(nn.Module):
    """What an objective trains: the student and whatever else has state.

    Its `state_dict` is the checkpoint. A program with several parameter groups is trained in that
    many phases a step, one after the other, each with an optimizer of its own and `key.phase` set.

    Attributes:
        student: The denoiser that is averaged, sampled and evaluated.
        notices: What whoever trains it should be told.
    """

    student: Denoiser
    notices: tuple[str, ...] = ()

    def forward(self, batch: Any, k: int, key: Key) -> Loss:
        """The loss of step k on a batch, with all its draws from `key`."""
        raise TypeError(f"{type(self).__name__} defines no forward(batch, k, key)")

    def groups(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Named parameters that need a gradient, by phase; one group of all of them, unless overridden."""
        return {"student": [(n, p) for n, p in self.named_parameters() if p.requires_grad]}

    def acts(self, phase: str, k: int) -> bool:
        """Whether a phase is trained at step k; if not, its weights, their moments and their average stay as they are.

        A function of the two alone: every process and a resumed run ask anew.
        """
        return True

    def started(self) -> None:
        """Called when the student got its starting weights, for what was copied from it before."""

    def after_step(self, k: int) -> None:
        """Called when step k has changed the weights."""
