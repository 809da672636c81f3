"""A run of trackio for each run of genkit."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING

import attrs
from torch import Tensor

from genkit.errors import PluginError
from genkit.kinds import TrackedRun, setting

if TYPE_CHECKING:
    import trackio


@attrs.frozen(kw_only=True)
class Trackio:
    """Curves, figures and pictures for trackio.

    The study of a trial is its group there. Runs are resumed by their names, so these end with the run's key.
    """

    project: str = setting("genkit", "the project there", identity=False)
    space: str = setting("", "a Space of Hugging Face, user/name; if empty, they stay here", identity=False)

    def open(self, run: TrackedRun) -> Session:
        """The run of trackio with the run's key: a new one, or the one that goes on.

        Raises:
            PluginError: The client is not installed.
        """
        client = _client()
        title = f"{run.arm or run.recipe['name']}, seed {run.recipe['train']['seed']}"
        with _quiet():
            made = client.init(
                project=self.project,
                name=f"{title}, {run.key}",
                group=run.study or None,
                space_id=self.space or None,
                config={**run.recipe, **({"study": run.study, "arm": run.arm} if run.study else {})},
                resume="allow",
                embed=False,
            )
        return Session(made, client)


def _client() -> ModuleType:
    try:
        import trackio
    except ModuleNotFoundError as error:
        raise PluginError("trackio", "is not installed", "python -m pip install trackio") from error
    return trackio


def _quiet() -> contextlib.redirect_stdout[object]:
    """What trackio prints is progress, and goes where a run's progress goes."""
    return contextlib.redirect_stdout(sys.stderr)


@attrs.frozen
class Session:
    """An open run of trackio."""

    run: trackio.Run
    client: ModuleType

    def scalars(self, k: int, figures: Mapping[str, float]) -> None:
        self.run.log(dict(figures), step=k)

    def images(self, k: int, name: str, picture: Tensor) -> None:
        pixels = picture.cpu().expand(3, -1, -1).permute(1, 2, 0).numpy()
        self.run.log({name: self.client.Image(pixels)}, step=k)

    def close(self, outcome: str) -> None:
        with _quiet():
            self.run.finish()
