"""Where a training runs: its device and threads, and several processes as one.

Processes meet by plain torch.distributed, and gradients are averaged by hand.

Gradients are averaged after the last micro-batch's backward pass, in one flat buffer per dtype, rather
than by a DDP wrapper: it serves every program alike (alternating optimizers, Jacobian-vector products,
weights without a gradient in this step), and costs one all-reduce that is short beside a step.
"""

from __future__ import annotations

import atexit
import importlib
import os
import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from genkit.errors import DataError, Gone, HardwareError, Stopped
from genkit.training.watching import LONGER, WATCH

T = TypeVar("T")
R = TypeVar("R")


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def start(device: str, minutes: float = 10) -> str:
    """Join the group that torchrun describes in the environment, if it does; this process's device.

    Args:
        minutes: How long to wait for another process, there and later.

    Raises:
        HardwareError: The environment speaks of several processes, but not of how they meet; or they do not.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1" or dist.is_initialized():
        return device
    if missing := [n for n in ("RANK", "MASTER_ADDR", "MASTER_PORT") if n not in os.environ]:
        raise HardwareError(
            "WORLD_SIZE",
            f"{os.environ['WORLD_SIZE']} processes, but {missing[0]} is not set",
            "start them with torchrun, or unset WORLD_SIZE",
        )
    if device.startswith("cuda"):
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    importlib.import_module("torch.distributed.nn.functional")  # its defaults keep the group of its first import
    wait = timedelta(minutes=min(minutes, 10_000))
    try:
        store, rank, world = next(rendezvous("env://", timeout=wait))
    except dist.DistError as error:
        said = f"{os.environ['WORLD_SIZE']} processes did not all come within {minutes:g} minutes"
        raise HardwareError("MASTER_ADDR", said, "see whether all were started, and reach it") from error
    WATCH.begin(store.clone(), rank, world, minutes)  # with a connection of its own: torch's may be waiting
    with _stdout_aside():
        backend, longer = "nccl" if device.startswith("cuda") else "gloo", 2 * LONGER * wait
        _together(partial(dist.init_process_group, backend, None, longer, world, rank, store))
    atexit.register(dist.destroy_process_group)  # gloo's threads must not outlive the interpreter: that aborts
    return device


@contextmanager
def _stdout_aside() -> Iterator[None]:
    """Have stdout on stderr: older gloo tells there that it is connected, and stdout is for results."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def average(tensors: Iterable[Tensor | None]) -> None:
    """Replace each tensor by its mean over all processes. A `None` must be `None` everywhere."""
    if world() == 1:
        return
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        if tensor is not None:
            by_dtype.setdefault(tensor.dtype, []).append(tensor)
    for group in by_dtype.values():
        flat = torch.cat([tensor.flatten() for tensor in group]) / world()
        _together(dist.all_reduce, flat)
        for tensor, mean in zip(group, torch.split(flat, [t.numel() for t in group]), strict=True):
            tensor.copy_(mean.view_as(tensor))


def peak_memory(device: str) -> int:
    """Most bytes that this process has held at a time: of tensors on a GPU, of everything on a CPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def gather(thing: Any) -> list[Any]:
    """Every process's thing, in order of rank."""
    if world() == 1:
        return [thing]
    things: list[Any] = [None] * world()
    _together(dist.all_gather_object, things, thing)
    return things


def _together(act: Callable[..., Any], *given: Any) -> None:
    """What all processes do at once.

    Raises:
        Gone: Another process is.
    """
    WATCH.meet()
    try:
        act(*given)
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        if WATCH.late():  # and has waited for the same process as the one that left first: it is about to say so
            WATCH.join(60)
        raise Gone(f"process {rank()}", "another process is gone", "see what that one said") from error


def reduce(work: Callable[[], T], combine: Callable[[list[T]], R]) -> R:
    """`combine` of what `work` gives on every process: made on the first, told to all.

    Raises:
        DataError, Stopped: On every process, if one of them met it.
    """
    if world() == 1:
        return combine([work()])
    mine = _outcome(work)
    theirs: list[Any] | None = [None] * world() if rank() == 0 else None
    _together(dist.gather_object, mine, theirs)
    said: list[Any] = [None]
    if theirs is not None:
        failed = next((outcome for outcome in theirs if outcome[1]), None)
        said = [failed or _outcome(lambda: combine([value for value, _ in theirs]))]
    _together(dist.broadcast_object_list, said)
    result, problem = said[0]
    if problem:
        raise problem[0](*problem[1:])
    return result  # type: ignore[no-any-return]


def _outcome(work: Callable[[], T]) -> tuple[T | None, tuple[Any, ...] | None]:
    try:
        return work(), None
    except (DataError, Stopped) as error:
        code = (error.exit_code,) if isinstance(error, Stopped) else ()
        return None, (type(error), error.where, error.what, error.hint, *code)


# ---- device and threads --------------------------------------------------------------------------


def pick_device(wanted: str | None) -> str:
    """A device that is here: the one that is wanted, else a card, else the CPU.

    Raises:
        HardwareError: It is none, or is not here.
    """
    device = wanted or ("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise HardwareError("--device", f"{device!r} is no device", "cpu, cuda, cuda:1 or mps")
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (kind == "cuda" and int(index or 0) >= cards) or (kind == "mps" and not torch.backends.mps.is_available()):
        raise HardwareError("--device", f"{device} is not here", "choose another, or leave the choice to genkit")
    return device


@contextmanager
def threads(wanted: int | None, small: bool) -> Iterator[int]:
    """CPU threads while it lasts: as wanted, else one for small samples, else torch's choice.

    A small network gains nothing from a second thread, and on a busy machine can lose much.
    """
    before = torch.get_num_threads()
    count = wanted or (1 if small else before)
    torch.set_num_threads(count)
    try:
        yield count
    finally:
        torch.set_num_threads(before)
