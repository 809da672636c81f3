"""Where a training runs: its device and threads, and several processes as one.

Processes meet by plain torch.distributed; its DistributedDataParallel averages gradients during the backward pass.
"""

from __future__ import annotations

import atexit
import importlib
import os
import resource
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from genkit.errors import DataError, Gone, HardwareError, Stopped
from genkit.kernel import discovery
from genkit.kernel.recipe import Train
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
    try:  # in a thread: a signal ends the wait for one, and not a wait within torch
        store, rank, world = ThreadPool(1).apply_async(next, (rendezvous("env://", timeout=wait),)).get()
    except dist.DistError as error:
        why = str(error).partition("\n")[0]
        said = f"{os.environ['WORLD_SIZE']} processes did not meet within {minutes:g} minutes ({why})"
        raise HardwareError("MASTER_ADDR", said, "see whether all were started, and reach it") from error
    WATCH.begin(store.clone(), rank, world, minutes)  # with a connection of its own: torch's may be waiting
    with discovery.off_stdout():  # older gloo tells there that it is connected, and stdout is for results
        backend, longer = "nccl" if device.startswith("cuda") else "gloo", 2 * LONGER * wait
        _together(partial(dist.init_process_group, backend, None, longer, world, rank, store))
    warnings.filterwarnings("ignore", "Grad strides do not match")  # nor need they along axes of length 1
    with open(os.devnull, "w") as nowhere, discovery.aside(2, nowhere.fileno()):  # for what torch says but once
        shared(one := nn.PReLU(device=device), one.parameters())(torch.ones(1, device=device))
    atexit.register(dist.destroy_process_group)  # gloo's threads must not outlive the interpreter: that aborts
    return device


def shared(program: nn.Module, weights: Iterable[nn.Parameter]) -> nn.Module:
    """What is called instead of a program, so that these weights get the mean gradient of all processes.

    A weight that no process has a gradient for has none afterwards. Torch looks for such at each step, as they may be
    others at the next one, and therefore leaves its buckets as they are: where it does not look, it orders them anew
    after the first step, and sums over three processes and more would be other ones in a run that is resumed.
    """
    if world() == 1:
        return program
    part = nn.Module()  # these weights and no others, nor buffers, which would be sent about
    part.weights, part.forward = nn.ParameterList(weights), program.__call__
    made = DistributedDataParallel(part, init_sync=False, find_unused_parameters=True, gradient_as_bucket_view=True)
    made.register_comm_hook(None, _averaged)
    return made


def _averaged(group, bucket):  # type: ignore[no-untyped-def]  # torch wants it without types
    """The mean of a bucket over all processes; where one comes to it, the others see it."""
    WATCH.meet()
    return allreduce_hook(group, bucket)


@contextmanager
def passes(program: nn.Module, last: bool) -> Iterator[None]:
    """Around a forward and a backward pass of a `shared` program; gradients add up, and the `last` pass averages them.

    Raises:
        Gone: Another process is.
    """
    with _gone(), nullcontext() if last or not isinstance(program, DistributedDataParallel) else program.no_sync():
        yield


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
    """What all processes do at once; raises Gone if one of them is."""
    WATCH.meet()
    with _gone():
        act(*given)


@contextmanager
def _gone() -> Iterator[None]:
    """Within, an error of a connection is told as what it means.

    Raises:
        Gone: Another process is.
    """
    try:
        yield
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
def settled(settings: Train, recorded: int | None, small: bool) -> Iterator[int]:
    """CPU threads and kernels as the table [train] wants them, while it lasts; gives the number of threads.

    That is one for small samples, unless another number is wanted or recorded: a small network gains nothing from a
    second thread, and on a busy machine can lose much. Under `deterministic` an operation that has no deterministic
    kernel raises: torch's warnings instead would leave attention's backward pass as it is.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA begins: torch demands it
    exact, tf32 = settings.deterministic, settings.precision == "tf32"
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode(), torch.get_float32_matmul_precision()
    count = settings.threads or recorded or (1 if small else before[0])
    try:
        _set(count, 2 if exact else 0, "high" if tf32 else "highest")
        with torch.backends.cudnn.flags(benchmark=not exact, deterministic=exact, allow_tf32=tf32):
            yield count
    finally:
        _set(*before)


def _set(threads: int, deterministic: int | str, products: str) -> None:
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(deterministic)
    torch.set_float32_matmul_precision(products)  # by its old name: inductor reads it so, and torch refuses to mix them
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # costs time for nothing
