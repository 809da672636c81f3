"""Where jobs run: a launcher from the user's configuration file, a study file and the command line, in this order.

    [launcher]
    use = "slurm"
    partition = "gpu"

A later table that names another launcher replaces the earlier one; else its settings are laid over them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genkit.errors import RecipeError
from genkit.kernel import resolving, tables, toml
from genkit.kernel.resolving import Problems
from genkit.kernel.toml import Place, Places
from genkit.kinds import Setup
from genkit.training import processes
from genkit_studies.jobs import Queue

LOCAL = "local"
Table = Mapping[str, Any]


def config_file() -> Path:
    """`$GENKIT_CONFIG`, else `genkit/config.toml` in the user's folder of settings."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(os.environ.get("GENKIT_CONFIG") or Path(base) / "genkit" / "config.toml")


def of_words(text: str) -> Table:
    """The table of `NAME` or `NAME={setting=value, …}`.

    Raises:
        RecipeError: It is neither.
    """
    name, equals, settings = (part.strip() for part in text.partition("="))
    given = tables.value_of(settings) if equals else {}
    if not isinstance(given, Mapping):
        what = f"{settings} is no table of settings"
        raise RecipeError("--launcher", what, f"""give '{name}={{partition="gpu"}}', say""")
    return {"use": name, **given}


def merged(*layers: Table) -> Table:
    """Tables laid over each other; one that names another launcher begins anew."""
    found: dict[str, Any] = {"use": LOCAL}
    for layer in layers:
        found = {**(found if layer.get("use", found["use"]) == found["use"] else {}), **layer}
    return found


def chosen(words: str = "", study: Table | None = None, jobs: int | None = None, per_device: int = 0) -> Any:
    """The component of the launcher that is meant.

    Args:
        words: Of `--launcher`.
        study: The table [launcher] of a study file.
        jobs: The setting of this name, over all else; so is `per_device`, of this machine.

    Raises:
        GenkitError: There is none of this name, or a setting is wrong; every problem at once.
    """
    for name, number, least in (("--jobs", jobs, 1), ("--per-device", per_device, 0)):
        if number is not None and number < least:
            raise RecipeError(name, f"{number} trials at a time", f"give a number from {least}")
    file = config_file()
    own = toml.parse(file, str(file))[1] if file.is_file() else {}
    configured, place = own.get("launcher", {}), Place(str(file), None, file.parent)
    for where, table in ((f"{place} [launcher]", configured), ("[launcher]", study or {})):
        if not isinstance(table, Mapping):
            raise RecipeError(where, f"expected a table, got {table!r}", '[launcher] use = "slurm"')
    told = {"jobs": jobs} if jobs else {}
    table = merged(configured, study or {}, of_words(words) if words else {}, told)
    table = {**table, "per_device": per_device} if per_device and table["use"] == LOCAL else table
    problems: Problems = []
    made = resolving.of_table("launcher", table, ("launcher",), problems, Places())
    resolving.stop(problems)
    return made


def require_elsewhere(component: Any, detach: bool) -> None:
    """Raises RecipeError where jobs would end with the command that is to leave them."""
    if detach and resolving.plain(component)["use"] == LOCAL:
        raise RecipeError("--detach", "trials of this machine end with the command", "name a --launcher, or use nohup")


@contextmanager
def launched(component: Any, device: str | None = None) -> Iterator[tuple[Queue, str]]:
    """Jobs by a launcher, which is closed at the end, and the device of this process's own work.

    A card is looked for here only if jobs run here: elsewhere each job looks for itself, unless it is told a device.

    Raises:
        HardwareError: Jobs run here, and the device is not.
    """
    local = resolving.plain(component)["use"] == LOCAL
    here = processes.pick_device(device) if local else "cpu"
    told = (device or "").partition(":")[0] if local else device or ""  # a slot sees no card but its own
    queue = Queue(component=component, setup=Setup(device=here if local else told), device=told)
    _ = queue.launcher  # made before anything is begun: its settings may not suit
    try:
        yield queue, here
    finally:
        queue.close()
