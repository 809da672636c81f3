"""Whom a run tells what happens: the hooks of plugins, and trackers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

from genkit.errors import PluginError
from genkit.kernel import discovery, registry

AFTERWARDS = ("genkit_run_end", "genkit_report")  # what there is no run left to end for


@attrs.define
class Hooks:
    """The plugins' lifecycle hooks of a run; one that raises ends the run, one that comes after it is told."""

    tell: Callable[..., None]

    def __call__(self, name: str, **what: Any) -> list[Any]:
        """Call a hook of all plugins that have it; what they gave.

        Raises:
            PluginError: It raised something; what it meant to say, a `GenkitError`, is passed on.
        """
        given = []
        for impl in getattr(discovery.installed().manager.hook, name).get_hookimpls():
            where = f"{name} of {impl.plugin_name.split(':')[0]}"
            try:
                with registry.blamed(where, "repair it, or leave it out: --without"):
                    given.append(impl.function(*(what[argument] for argument in impl.argnames)))
            except PluginError as failed:
                if name not in AFTERWARDS:
                    raise
                self.tell(event="notice", text=str(failed))
        return given


@attrs.define
class Trackers:
    """The trackers of a run; one that fails is dropped, with a notice."""

    sessions: dict[str, Any]
    tell: Callable[..., None]

    def scalars(self, k: int, figures: dict[str, float]) -> None:
        self._each(lambda session: session.scalars(k, figures))

    def images(self, k: int, name: str, image: Tensor) -> None:
        self._each(lambda session: session.images(k, name, image))

    def close(self) -> None:
        self._each(lambda session: session.close())

    def _each(self, act: Callable[[Any], Any]) -> None:
        for name, session in list(self.sessions.items()):
            try:
                act(session)
            except (Exception, SystemExit) as error:  # whatever a tracker does wrong, the run goes on
                del self.sessions[name]
                self.tell(event="notice", text=f"tracker {name} is dropped: {type(error).__name__}: {error}")


@contextmanager
def trackers(
    components: dict[str, Any], folder: Path, recipe: dict[str, Any], tell: Callable[..., None]
) -> Iterator[Trackers]:
    opened = Trackers({}, tell)
    for name, component in components.items():
        try:
            opened.sessions[name] = component.open(folder, recipe)
        except (Exception, SystemExit) as error:  # as above
            tell(event="notice", text=f"tracker {name} is dropped: {type(error).__name__}: {error}")
    try:
        yield opened
    finally:
        opened.close()
