"""Python that a recipe names by its file: run at a user's word alone, and kept beside the recipe.

A file counts by its content. `./my_loss.py:Cauchy` becomes `./code/my_loss-1a2b3c4d5e.py:Cauchy`, with the beginning
of its SHA-256. So the class is called in a run's id and in its resolved recipe, beside which the folder `code` has the
copy.

Code is run where a user has named its file by hand (in a recipe given by its path, on the command line, in Python),
where the same content was so named before on this machine, and anywhere while `GENKIT_LOCAL_CODE` is set. To name a
copy is not enough, nor the recipe beside it: both may have come with somebody else's run.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import runpy
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

from genkit.data import atomic, cache_folder
from genkit.errors import PluginError, RecipeError
from genkit.kernel import blame, discovery, registry, resolving
from genkit.kernel.registry import ComponentInfo
from genkit.kinds import closest, names

FOLDER = "./code"  # stands where components of plugins have their distribution
TEXTS: dict[str, str] = {}  # what this process has run, by the names of the copies


def find(kind: str, use: str, folder: Path, where: str, by_hand: bool) -> ComponentInfo:
    """The component of a file's class, `path/to/file.py:Class`.

    Args:
        folder: Where its path starts, if it is relative.
        where: Who names it, for messages.
        by_hand: Whether that is a user.

    Raises:
        RecipeError: There is no such file or class, or nobody has allowed to run it.
        PluginError: It fails when it is run.
    """
    path, _, name = use.rpartition(":")
    file = folder / Path(path).expanduser()
    text = TEXTS.get(file.name)
    try:
        content = file.read_text("utf-8") if text is None else text
    except (OSError, ValueError) as error:
        raise RecipeError(where, f"{file} cannot be read ({error})", "check the path") from error
    if by_hand and not file.stem.endswith(f"-{_digest(content)}"):  # a copy of a run is as its maker left it
        allow(content)
    elif text is None and not _mark(content).exists() and not os.environ.get("GENKIT_LOCAL_CODE"):
        what = f"{file} is code that you have not named, and that was not run here before"
        raise RecipeError(where, what, "read it; if you trust it, --local-code allows it")
    return of_text(kind, file.stem, content, name, where, file)


def allow(text: str) -> None:
    """Remember that a user has this Python run, so that it may be run again, from wherever it is kept."""
    with suppress(OSError):  # it will be asked for again
        _mark(text).parent.mkdir(parents=True, exist_ok=True)
        _mark(text).touch()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _mark(text: str) -> Path:
    return cache_folder() / "code" / hashlib.sha256(text.encode()).hexdigest()


def of_text(kind: str, stem: str, text: str, name: str, where: str, file: object) -> ComponentInfo:
    """The component of a class in some Python, which is run once in a process.

    Raises:
        RecipeError: It has no such class.
        PluginError: It fails when it is run.
    """
    digest = _digest(text)
    module, copy = f"genkit_code_{digest}", f"{stem.removesuffix(f'-{digest}')}-{digest}.py"
    if module not in sys.modules:
        _run(module, text, file, where)
    TEXTS[copy] = text
    has = {n: v for n, v in vars(sys.modules[module]).items() if getattr(v, "__module__", "") == module}
    if not inspect.isclass(has.get(name)):
        classes = [n for n, value in has.items() if inspect.isclass(value)]
        raise RecipeError(where, f"{file} has no class {name!r}", closest(name, classes, f"classes: {names(classes)}"))
    summary = (inspect.getdoc(has[name]) or "").partition("\n")[0]
    return ComponentInfo(kind, f"{copy}:{name}", f"{module}:{name}", summary, FOLDER, digest)


def _run(name: str, text: str, file: object, where: str) -> None:
    sys.modules[name] = made = ModuleType(name)  # where its classes look for their names
    made.__file__ = str(file)
    try:
        with discovery.off_stdout(), blame.blamed(f"{where} {file}"):
            exec(compile(text, str(file), "exec"), vars(made))
    except BaseException:
        del sys.modules[name]
        raise


def run(paths: Iterable[str]) -> None:
    """Run files that register components, as `--plugin` does.

    Raises:
        PluginError: One is not there, fails, or registers nothing.
    """
    for path in paths:
        before = _registered()
        if not Path(path).is_file():
            raise PluginError("--plugin", f"no such file {path!r}", "name a file of Python")
        with discovery.off_stdout(), blame.blamed(f"--plugin {path}"):
            runpy.run_path(path)
        if _registered() == before:
            raise PluginError(
                f"--plugin {path}", "registers nothing", 'end it with genkit.register("loss", "mine", Mine)'
            )


def _registered() -> list[ComponentInfo]:
    return [info for info in registry.components().values() if info.distribution == FOLDER]


def keep(folder: Path, recipe: Any) -> None:
    """Put copies of the Python that a recipe's components come from into `code` of a folder.

    Raises:
        DataError: One cannot be written.
    """
    parts = resolving.components_of(attrs.asdict(recipe, recurse=False))
    infos = [info for _, part in parts if (info := registry.origin(part)) and info.distribution == FOLDER]
    for name in {info.name.rpartition(":")[0] for info in infos}:
        path = folder / FOLDER / name
        if not path.is_file() or path.read_text("utf-8") != TEXTS[name]:
            atomic.write(path, TEXTS[name])
