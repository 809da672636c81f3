"""What `genkit doctor` looks at of the machine: processors, cards, limits, what makes several processes one."""

from __future__ import annotations

import math
import os
import re
import resource
import shutil
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genkit_runs.findings import Finding, note, ok, problem, size

DRIVER = Path("/proc/driver/nvidia/version")
QUOTA = Path("/sys/fs/cgroup/cpu.max")
SHARED = Path("/dev/shm")
OPEN_FILES = 1024
SMALL = 100e6  # bytes, less than a checkpoint of a network of some size
SHARED_LEAST = 256e6  # containers have 64 MB unless they are told otherwise


# ---- processors and cards ------------------------------------------------------------------------


def processors() -> Iterator[Finding]:
    """CPUs that may be used, and threads that will be."""
    import torch

    count, asked, threads = usable(), os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads()
    what = f"{count} of {os.cpu_count()} may be used, torch takes {threads}"
    what += "" if asked is None else f" (OMP_NUM_THREADS={asked})"
    if asked is not None and not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", asked):
        yield problem("processors", f"OMP_NUM_THREADS={asked} is no number of threads", "unset it, or set a number")
    elif threads > count:
        yield note("processors", f"{what}: they wait for each other", f"set OMP_NUM_THREADS={count}")
    else:
        yield ok("processors", what)


def usable() -> int:
    """CPUs that this process may use: those of its affinity, and no more than its control group grants."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted, _, period = (QUOTA.read_text() if QUOTA.is_file() else "max").partition(" ")
    return min(count, max(1, math.ceil(int(granted) / int(period)))) if granted.strip().isdigit() else count


def cards() -> Iterator[Finding]:
    """The cards that torch sees, or why it sees none."""
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    if there:
        yield from (_card(torch, i) for i in range(torch.cuda.device_count()))
    else:
        yield _none(torch, " ".join(str(s.message) for s in said))
    if torch.backends.mps.is_available():
        yield note("mps", "is here, and untested", "compare with --device cpu")


def _card(torch: Any, i: int) -> Finding:
    about, whole = f"cuda:{i}", torch.cuda.get_device_properties(i)
    what = f"{whole.name}, capability {whole.major}.{whole.minor}, driver {driver() or 'unknown'}"
    try:
        free, total = torch.cuda.mem_get_info(i)
        if float(torch.ones(4, device=about).sum()) != 4:
            return problem(about, f"{what}, adds wrongly", "take it out of CUDA_VISIBLE_DEVICES")
    except RuntimeError as error:
        why = " ".join(str(error).split())[:160]
        return problem(about, f"{what}, cannot be used: {why}", "install a torch that is built for it")
    what += f", {size(free)} of {size(total)} free"
    if free < 1e9:
        return note(about, what, "see with nvidia-smi who has it")
    return ok(about, what)


def driver() -> str:
    """The version of NVIDIA's driver; empty where none is loaded."""
    told = re.search(r"\s(\d+\.\d+(\.\d+)?)\s", DRIVER.read_text()) if DRIVER.is_file() else None
    return told[1] if told else ""


def _none(torch: Any, said: str) -> Finding:
    """Why no card is seen."""
    hidden, loaded = os.environ.get("CUDA_VISIBLE_DEVICES"), driver()
    if torch.version.cuda is None:
        if loaded:
            what = f"torch {torch.__version__} is built without CUDA, and driver {loaded} is here"
            return note("cuda", what, "install a torch with CUDA")
        return ok("cuda", f"no card: torch {torch.__version__} is built without CUDA")
    if hidden is not None and not re.match(r"\d|GPU|MIG", hidden):
        return note("cuda", f"CUDA_VISIBLE_DEVICES={hidden!r} hides all cards", "unset it, if that is not meant")
    if not loaded:
        return ok("cuda", "no card: no NVIDIA driver is loaded here")
    why = " ".join(said.split())[:200] or _fault(torch)
    remedy = f"bring driver {loaded} and torch's CUDA {torch.version.cuda} together, or unset CUDA_VISIBLE_DEVICES"
    return problem("cuda", f"driver {loaded} is here, and torch sees no card: {why}", remedy)


def _fault(torch: Any) -> str:
    try:
        torch.cuda.init()
    except Exception as error:
        return " ".join(str(error).split())[:200]
    return "it says nothing"


# ---- limits and the working directory ------------------------------------------------------------


def here() -> Iterator[Finding]:
    """The working directory, without which torch cannot be imported."""
    try:
        yield ok("working directory", os.getcwd())
    except FileNotFoundError:
        yield problem("working directory", "is gone, and no more was looked at", "go to a folder that is there")


def limits() -> Iterator[Finding]:
    """Open files, file size, memory of a process, memory that processes share."""
    kinds = (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_AS)
    files, most, memory = (math.inf if (n := resource.getrlimit(k)[0]) == resource.RLIM_INFINITY else n for k in kinds)
    if files < OPEN_FILES:
        worse = problem if files < 64 else note
        yield worse("limits", f"{files} files may be open at once", f"ulimit -n {OPEN_FILES}")
    if most < math.inf:
        worse = problem if most < SMALL else note
        yield worse("limits", f"files may have {size(most)}: a larger checkpoint is refused", "ulimit -f unlimited")
    if memory < math.inf:
        what = f"a process may map {size(memory)}, and torch maps more than it uses"
        yield note("limits", what, "ulimit -v unlimited")
    if files >= OPEN_FILES and most == memory == math.inf:
        yield ok("limits", f"{'any number of' if files == math.inf else files} open files, of any size")
    if SHARED.is_dir():
        total, _, free = shutil.disk_usage(SHARED)
        what = f"{size(free)} of {size(total)} free in {SHARED}"
        little = note("shared memory", f"{what}: little for several processes", "containers: --shm-size=1g")
        yield little if free < SHARED_LEAST else ok("shared memory", what)


# ---- several processes ---------------------------------------------------------------------------

GROUP = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets beside WORLD_SIZE
PATIENCE = "TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC"


def processes() -> Iterator[Finding]:
    """What the environment says of other processes, and how long they are waited for."""
    odd = [*_group(), *_waiting(), *_interfaces()]
    yield from odd or [ok("processes", "nothing in the environment speaks of several")]


def _group() -> Iterator[Finding]:
    world, there = os.environ.get("WORLD_SIZE", "1"), [name for name in GROUP if name in os.environ]
    lacking = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    told = ", ".join(f"{name}={os.environ[name]}" for name in there)
    remedy = "unset them, unless this is started by torchrun"
    if not re.fullmatch(r"[1-9]\d*", world):
        yield problem("processes", f"WORLD_SIZE={world!r} is no number of processes", "unset it")
    elif world != "1" and lacking:
        yield problem("processes", f"WORLD_SIZE={world}, but {lacking[0]} is not set", "unset it, or use torchrun")
    elif world != "1":
        yield note("processes", f"WORLD_SIZE={world}, {told}: each command waits for the others", remedy)
    elif there:
        yield note("processes", f"{told} without other processes", remedy)
    port = os.environ.get("MASTER_PORT", "29500")
    if not (port.isdecimal() and 0 < int(port) < 65536):
        yield problem("processes", f"MASTER_PORT={port!r} is no port", "unset it, or set 29500")


def _waiting() -> Iterator[Finding]:
    for name, value in sorted(os.environ.items()):
        if name in ("NCCL_BLOCKING_WAIT", "NCCL_ASYNC_ERROR_HANDLING"):
            yield note("processes", f"{name}={value} is an old name", f"set TORCH_{name} instead")
        elif (name, value) == ("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0"):
            yield problem("processes", f"{name}=0: a process that hangs is waited for without end", "unset it")
        elif name == PATIENCE and not re.fullmatch(r"[1-9]\d*", value):
            yield problem("processes", f"{name}={value!r} is no number of seconds", "unset it, or set a number")
        elif name.startswith("TORCH_NCCL_"):
            yield note("processes", f"{name}={value}", "nothing, if that is meant")


def _interfaces() -> Iterator[Finding]:
    there = [name for _, name in socket.if_nameindex()]
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        asked = os.environ.get(variable, "")
        names = [] if asked.startswith("^") else [n for n in asked.lstrip("=").split(",") if n]
        if names and not any(own.startswith(n) for own in there for n in names):
            remedy = f"choose of {', '.join(there)}, or unset it"
            yield problem("processes", f"{variable}={asked} is no interface here", remedy)
        elif asked:
            yield note("processes", f"{variable}={asked}", "nothing, if that is meant")
