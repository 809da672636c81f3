"""Whom a run tells what happens: trackers, and the hooks of plugins."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import attrs
from torch import Tensor

from genkit.errors import Diverged, PluginError, Stopped
from genkit.kernel import blame, discovery
from genkit.kinds import Session, TrackedRun, Tracker, Watch

AFTERWARDS = ("genkit_run_end", "genkit_report")  # what there is no run left to end for


def outcome_of(error: BaseException | None) -> str:
    """How a run ended: done, or by an error that left it diverged, preempted or failed."""
    return {type(None): "done", Diverged: "diverged", Stopped: "preempted"}.get(type(error), "failed")


def watching(watch: Watch | None, progress: bool) -> AbstractContextManager[Watch]:
    """The watcher that was given; else one that shows progress where somebody looks on, if that is wanted."""
    hook = discovery.installed().manager.hook.genkit_progress
    shown = None if watch or not progress else hook(stream=sys.stderr)
    return shown or nullcontext(watch or (lambda event: None))


@attrs.define
class Trackers(AbstractContextManager["Trackers"]):
    """The trackers of a run; one that fails is dropped, with a notice. Its end closes those that were opened."""

    components: Mapping[str, Tracker]
    tell: Callable[..., None]
    sessions: dict[str, Session] = attrs.field(factory=dict)

    def open(self, run: TrackedRun) -> None:
        for name, component in self.components.items():
            with self._dropping(name):
                if "recipe" in inspect.signature(component.open).parameters:
                    raise TypeError("its open takes a folder and a recipe, as it did before; it is open(self, run)")
                self.sessions[name] = component.open(run)

    def scalars(self, k: int, figures: Mapping[str, float]) -> None:
        self._each(lambda session: session.scalars(k, figures))

    def images(self, k: int, name: str, image: Tensor) -> None:
        self._each(lambda session: session.images(k, name, image))

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._each(lambda session: session.close(outcome_of(error)))

    def _each(self, act: Callable[[Session], None]) -> None:
        for name, session in list(self.sessions.items()):
            with self._dropping(name):
                act(session)

    @contextmanager
    def _dropping(self, name: str) -> Iterator[None]:
        try:
            yield
        except (Exception, SystemExit) as error:  # whatever a tracker does wrong, the run goes on
            self.sessions.pop(name, None)
            self.tell(event="notice", text=f"tracker {name} is dropped: {type(error).__name__}: {error}")


@attrs.define
class Hooks:
    """The plugins' lifecycle hooks of a run; one that raises ends the run, one that comes after it is told."""

    tell: Callable[..., None]
    trackers: Trackers = attrs.field(default=attrs.Factory(lambda self: Trackers({}, self.tell), takes_self=True))

    def __call__(self, name: str, **what: Any) -> list[Any]:
        """Call a hook of all plugins that have it; what they gave.

        Raises:
            PluginError: It raised something; what it meant to say, a `GenkitError`, is passed on.
        """
        given = []
        for impl in getattr(discovery.installed().manager.hook, name).get_hookimpls():
            where = f"{name} of {impl.plugin_name.split(':')[0]}"
            try:
                with blame.blamed(where, "repair it, or leave it out: --without"):
                    given.append(impl.function(*(what[argument] for argument in impl.argnames)))
            except PluginError as failed:
                if name not in AFTERWARDS:
                    raise
                self.tell(event="notice", text=str(failed))
        return given
