"""Draws outside keys, noticed: from the default generators, which nobody saves, so that a resumed run would differ."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from genkit import keys
from genkit.errors import PluginError
from genkit.kernel import blame

WHAT = "draws from a default generator: no resumed run would be the same"
HINT = "draw with key.normal or key.uniform; dropout alone may use them, within key.reseeded"


@contextmanager
def none_outside_keys(device: str = "cpu") -> Iterator[None]:
    """Hold what is done within against the law that all randomness comes from keys.

    Raises:
        PluginError: A default generator (torch's, Python's or numpy's) is not as it was; names the component that drew
            from torch's.
    """
    with none_elsewhere(), _Watch(device) as watch:
        yield
    if watch.drew:
        raise PluginError(watch.drew, WHAT, HINT)


@contextmanager
def none_elsewhere(where: str = "a component") -> Iterator[None]:
    """The same of Python's and numpy's generators, which tell nobody who draws."""
    before = _elsewhere()
    yield
    if before != _elsewhere():
        raise PluginError(where, WHAT, HINT)


class _Watch(TorchFunctionMode):
    """Sees which plugin's code changes torch's default generators."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.generators = {torch.default_generator, keys.default_generator(torch.device(device))}
        self.drew = ""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before = [generator.get_state() for generator in self.generators]
        result = func(*args, **(kwargs or {}))
        if not self.drew and not keys.is_reseeded():
            after = [generator.get_state() for generator in self.generators]
            if any(not bool(a.eq(b).all()) for a, b in zip(before, after, strict=True)):
                self.drew = blame.culprit(sys._getframe(1))
        return result


def everywhere() -> tuple[Any, ...]:
    """The states of the default generators of torch, on a CPU, of numpy and of Python."""
    return torch.get_rng_state().numpy().tobytes(), *_elsewhere()


def _elsewhere() -> tuple[Any, ...]:
    _, numbers, *rest = np.random.get_state()
    return random.getstate(), np.asarray(numbers).tobytes(), *rest
