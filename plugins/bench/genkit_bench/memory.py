"""Bytes: those that a training holds all the time, and those that a call takes on top."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from genkit.kernel import discovery
from genkit.training.state import State


def held(state: State) -> int:
    """Bytes of weights, gradients, moments and averages."""
    grads = [p.grad for p in state.program.parameters() if p.grad is not None]
    return sum(t.nbytes for t in (*state.tensors().values(), *grads))


@contextmanager
def profiled(**asked: bool) -> Iterator[Any]:
    """Torch's profiler, without what its library writes to stderr."""
    profile: Any = torch.profiler.profile
    with (
        open(os.devnull, "w") as nowhere,
        discovery.aside(2, nowhere.fileno()),
        profile(acc_events=True, **asked) as told,
    ):
        yield told


def taken(call: Callable[[], object], device: str = "cpu") -> int:
    """The most bytes that are allocated at a time during a call, beyond what was before."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with profiled(profile_memory=True) as profile:
        call()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    levels = itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))
    return max(levels, default=0)
