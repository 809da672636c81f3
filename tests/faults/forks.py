"""A process that has imported what takes long, and forks commands of genkit: `python forks.py SOCKET`.

A connection is one command. It sends a line of JSON: argv, cwd, env, path (put before `sys.path`), out and err (files),
limits (of `resource`, by name). It gets two lines: the command's pid, and when it has ended exit code, seconds, CPU
seconds and the peak of memory in MB. Modules are imported before the fork, and nothing else is done: plugins are found
after it.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import socket
import sys
import time
import traceback
from importlib import metadata


def serve(address):
    imports()
    parent = os.getppid()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who keep a command
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        listening.settimeout(1)
        while os.getppid() == parent:
            with contextlib.suppress(TimeoutError):
                connection, _ = listening.accept()
                if os.fork() == 0:
                    listening.close()
                    keep(connection)
                connection.close()


def imports():
    """Everything that a command may import."""
    import torch._dynamo

    torch.set_num_threads(1)
    for name in ("genkit", *sorted({entry.module for entry in metadata.entry_points(group="genkit")})):
        with contextlib.suppress(ImportError):
            package = importlib.import_module(name)
            for module in pkgutil.walk_packages(getattr(package, "__path__", []), f"{name}."):
                if not module.name.endswith("__main__"):
                    importlib.import_module(module.name)
    gc.freeze()


def keep(connection):
    """Start the command that is asked for, and tell what becomes of it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection.makefile("rw") as line:
        if not (asked := line.readline()):
            os._exit(0)
        order = json.loads(asked)
        if order["limits"]:  # they are not those of the files that output goes into
            order["err"] = copied(order["err"])
        begun = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os._exit(command(**order))
        with contextlib.suppress(BrokenPipeError):  # who asked is gone
            print(pid, file=line, flush=True)
        status, used = os.wait4(pid, 0)[1:]
        if order["limits"]:
            os.close(order["err"])
            os.wait()
        told = {
            "code": os.waitstatus_to_exitcode(status),
            "seconds": time.monotonic() - begun,
            "cpu": used.ru_utime + used.ru_stime,
            "mb": used.ru_maxrss / 1024,
        }
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(told), file=line, flush=True)
    os._exit(0)


def copied(file):
    """The writing end of a pipe, of which everything goes into a file."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(writing)
        with open(reading, "rb") as pipe, open(file, "wb") as target:
            target.write(pipe.read())
        os._exit(0)
    os.close(reading)
    return writing


def command(argv, cwd, env, path, out, err, limits):
    """What `python -m genkit` does, as far as a command can tell; its exit code."""
    os.setsid()
    os.chdir(cwd)
    for number, file in ((0, os.devnull), (1, out), (2, err)):
        os.dup2(file if isinstance(file, int) else os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644), number)
    os.closerange(3, 64)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = [*path, cwd]
    sys.argv = ["genkit", *argv]
    for name, most in limits.items():
        resource.setrlimit(getattr(resource, name), (most, most))
    code = 0
    try:
        sys.modules["genkit.cli"].main(argv)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return code


if __name__ == "__main__":
    serve(sys.argv[1])
