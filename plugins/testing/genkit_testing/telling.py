"""What a broken law says: what came, and what is owed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

BETTER = (torch.float32, torch.float64)


def require(fact: bool, came: str, owed: str) -> None:
    """An assertion that `python -O` keeps.

    Raises:
        AssertionError: Says what came, and what is owed.
    """
    if not fact:
        raise AssertionError(f"{came}; owed: {owed}")


def require_numbers(
    given: Any, shape: tuple[int, ...], owed: str, dtypes: tuple[torch.dtype, ...] = BETTER, when: str = ""
) -> Tensor:
    """Require finite numbers of a shape and of one of some types, and give them back."""
    right = isinstance(given, Tensor) and tuple(given.shape) == shape and given.dtype in dtypes
    right = right and bool(torch.isfinite(given).all())
    named = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
    require(right, f"gave {told(given)}{when}", f"{owed}, finite {named} of shape {shape}")
    values: Tensor = given
    return values


def require_same(one: Tensor, other: Tensor, came: str, owed: str, rtol: float = 1e-4, atol: float = 1e-6) -> None:
    """Require two tensors to be alike, to rounding."""
    if one.shape != other.shape:
        require(False, f"{came}: {told(other)} beside {told(one)}", owed)
    apart = (one.double() - other.double()).abs()
    fact = torch.allclose(one.double(), other.double(), rtol=rtol, atol=atol)
    require(fact, f"{came}, by up to {apart.max().item() if apart.numel() else 0:.3g}", owed)


def told(given: Any) -> str:
    """A value in a message: type, shape and range of a tensor."""
    if not isinstance(given, Tensor):
        return f"{type(given).__name__} {str(given)[:80]!r}"
    text = f"{str(given.dtype).removeprefix('torch.')} of shape {tuple(given.shape)}"
    if not given.numel() or given.dtype == torch.bool:
        return text
    return f"{text}, values from {given.min().item():.4g} to {given.max().item():.4g}"


def held(who: str, law: Callable[[], None]) -> None:
    """Hold somebody against a law; what is raised says who it was."""
    try:
        law()
    except AssertionError as error:
        raise AssertionError(f"{who}: {error}") from error
    except Exception as error:
        error.add_note(f"raised by {who}, while it was held against its laws")
        raise
