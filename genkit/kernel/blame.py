"""Whose code raised: what a plugin does wrong is one line that names it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from traceback import walk_tb
from types import CodeType, FrameType

from genkit.errors import GenkitError, Left, PluginError, lacks_memory
from genkit.kernel import discovery, registry


@contextlib.contextmanager
def blamed(where: str = "", hint: str = "--debug shows the place", command: bool = False) -> Iterator[None]:
    """Whatever a plugin's code raises as one line that names it; but for signals, lack of memory, and files' errors.

    Args:
        where: Whose code it is; by default found out by the traceback, and what is nobody's stays as it is.
        command: Of a command, whose own SystemExit is an exit code, and whose stdout may be full.

    Raises:
        PluginError: Something was raised.
    """
    try:
        yield
    except (GenkitError, Left):
        raise
    except BaseException as error:
        frames = [frame for frame, _ in walk_tb(error.__traceback__)]
        who = where or culprit(frames[-1], frames[1])  # nobody's fault who called what is done within
        pressed = isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        system = isinstance(error, OSError) and bool(command or (error.filename and not where))
        leaves = command and isinstance(error, SystemExit) and " of " not in who  # a command does, not a component
        if not who or pressed or system or leaves or lacks_memory(error):
            raise
        raise PluginError(who, " ".join(f"{type(error).__name__}: {error}".split()), hint) from error


def culprit(frame: FrameType | None, until: FrameType | None = None) -> str:
    """The component, or else the plugin, whose code runs in a frame or called it, within `until`; empty if none."""
    packages = {info.target.partition(":")[0]: info.distribution for info in registry.ORIGIN.values()}
    packages |= {plugin.target.split(".")[0]: plugin.distribution for plugin in discovery.installed().all}
    found = ""
    while frame is not until and frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        distribution = packages.get(module.partition(".")[0], "")
        if distribution and found in ("", distribution):
            if info := registry.origin(frame.f_locals.get("self")) or _by_code(module, frame.f_code):
                return registry.named(info)
            found = distribution
        frame = frame.f_back
    return found


def _by_code(module: str, code: CodeType) -> registry.ComponentInfo | None:
    """The component in whose class code stands; else the only one of its module that was asked for, if it is one."""
    of_module = {cls.__qualname__: info for cls, info in registry.ORIGIN.items() if cls.__module__ == module}
    only = next(iter(of_module.values())) if len(of_module) == 1 else None
    return of_module.get(code.co_qualname.partition(".")[0], only)
