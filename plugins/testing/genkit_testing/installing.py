"""Stand-ins for an installation, where a test tries a plugin: its metadata in a folder, and that folder on the path."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from genkit.hookspecs import API, Lazy, hookimpl
from genkit.kernel import registry


def provide(folder: Path, name: str, module: str, version: str = "0.1") -> Path:
    """Write into `folder` what makes `module` a plugin wherever `folder` is on the path: its metadata.

    The module itself, `<module>.py` or a package, is the caller's to put there or elsewhere on the path.
    """
    info = folder / f"genkit_probe_{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: genkit-probe-{name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[genkit]\n{name} = {module}\n")
    return folder


@contextmanager
def present(*folders: Path) -> Iterator[None]:
    """Have folders on the path, with the plugins that they provide."""
    added = [str(folder) for folder in folders]
    sys.path[:0] = added
    registry.forget()
    try:
        yield
    finally:
        for folder in added:
            sys.path.remove(folder)
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(tuple(added)):
                del sys.modules[name]
        registry.forget()


@contextmanager
def offering(folder: Path) -> Iterator[Callable[[str, str, type], None]]:
    """Have classes be components for a while: within, what is given is called `(kind, name, cls)`."""
    module = types.ModuleType("genkit_offered")
    by_kind: dict[str, dict[str, Lazy]] = {}
    vars(module).update(GENKIT_API=API, genkit_components=hookimpl(lambda: by_kind))

    def offer(kind: str, name: str, cls: type) -> None:
        attribute = f"{cls.__name__}_{len(vars(module))}"
        setattr(module, attribute, cls)
        summary = (inspect.getdoc(cls) or "").split("\n")[0]
        by_kind.setdefault(kind, {})[name] = Lazy(f"{module.__name__}:{attribute}", summary)
        registry.forget()

    sys.modules[module.__name__] = module
    try:
        with present(provide(folder, "offered", module.__name__)):
            yield offer
    finally:
        del sys.modules[module.__name__]
