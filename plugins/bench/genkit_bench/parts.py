"""Where the time of a step goes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.profiler import record_function

from genkit.denoiser import Denoiser
from genkit.ema import Average
from genkit.training.state import State
from genkit_bench import pairing, passes

ABOUT = {
    "data": "the batch",
    "teacher": "passes of networks without gradient",
    "forward": "passes of networks with gradient",
    "loss": "the objective's rest: draws, metric, weights",
    "backward": "gradients",
    "optimizer": "the weights' change",
    "average": "running averages",
    "hooks": "what plugins do after a step",
    "rest": "all else",
}


class Parts:
    """Times at which one part of a step gives way to another, so that their seconds sum to the whole.

    On a card the times are events in its queue: nothing waits for the device until `seconds` is asked.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.turns: list[tuple[Any, str]] = []
        self.open: list[tuple[str, Any]] = []

    def begin(self, name: str) -> None:
        named = record_function(name)  # which a trace shows
        named.__enter__()  # type: ignore[no-untyped-call]
        self.open.append((name, named))
        self._turn()

    def end(self) -> None:
        self.open.pop()[1].__exit__(None, None, None)
        self._turn()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self.begin(name)
        try:
            yield
        finally:
            self.end()

    def _turn(self) -> None:
        now: Any = time.perf_counter()
        if self.device.startswith("cuda"):
            now = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            now.record()
        self.turns.append((now, self.open[-1][0] if self.open else ""))

    def seconds(self) -> dict[str, float]:
        """Of each part, those of parts within it left out."""
        pairing.wait(self.device)
        found = dict.fromkeys(ABOUT, 0.0)
        for (now, name), (after, _) in zip(self.turns, self.turns[1:], strict=False):
            if name:
                found[name] += now.elapsed_time(after) / 1000 if self.device.startswith("cuda") else after - now
        return found


@contextmanager
def told(parts: Parts, state: State, compiled: bool) -> Iterator[None]:
    """Have the parts of a step tell when they begin and end, from outside: the step itself is as it always is.

    Args:
        compiled: Networks are, and cannot tell: a call that is not through a denoiser then counts as "loss".
    """

    def timed(function: Callable[..., Any], name: str = "") -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*given: Any, **more: Any) -> Any:
            with parts.part(name or _kind()):
                return function(*given, **more)

        return call

    with ExitStack() as stack:
        for owner, method, name in (
            (Denoiser, "forward", ""),
            (type(state.program), "forward", "loss"),
            (Tensor, "backward", "backward"),
            (Average, "update", "average"),
        ):
            stack.enter_context(mock.patch.object(owner, method, timed(getattr(owner, method), name)))
        for optimizer in state.optimizers.values():
            stack.enter_context(mock.patch.object(optimizer, "step", timed(optimizer.step, "optimizer")))
        if not compiled:
            stack.enter_context(passes.heard(lambda *_: parts.begin(_kind()), parts.end))
        yield


def _kind() -> str:
    return "forward" if torch.is_grad_enabled() else "teacher"
