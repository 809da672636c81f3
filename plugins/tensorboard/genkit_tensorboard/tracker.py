"""Event files for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs.validators import gt
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from genkit.kinds import setting


@attrs.frozen(kw_only=True)
class TensorBoard:
    """Curves and pictures for TensorBoard, in the run folder.

    They go to `tensorboard/` of the run folder: `tensorboard --logdir runs` shows all runs.
    """

    flush_sec: int = setting(30, "seconds after which what was told is on disk", check=gt(0), identity=False)

    def open(self, folder: Path, recipe: Mapping[str, Any]) -> Session:
        return Session(folder / "tensorboard", recipe, self.flush_sec)


class Session:
    """A run's event files.

    They are opened by the first figure or picture: in a resumed run its step says from where on what an
    earlier process wrote is to be forgotten (TensorBoard's `purge_step`), for those steps come again.
    """

    def __init__(self, folder: Path, recipe: Mapping[str, Any], flush_sec: int) -> None:
        self._folder, self._recipe, self._flush_sec = folder, recipe, flush_sec
        self._writer: SummaryWriter | None = None

    def scalars(self, k: int, figures: Mapping[str, float]) -> None:
        """Figures of step k."""
        writer = self._at(k)
        for name, value in figures.items():
            writer.add_scalar(name, float(value), k)

    def images(self, k: int, name: str, picture: Tensor) -> None:
        """A picture of step k: uint8 (C, H, W), grey or RGB."""
        self._at(k).add_image(name, picture.cpu(), k)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _at(self, k: int) -> SummaryWriter:
        if self._writer is None:
            resumed = any(self._folder.glob("events.out.tfevents.*"))
            self._writer = SummaryWriter(
                str(self._folder), purge_step=k if resumed else None, flush_secs=self._flush_sec
            )
            if not resumed:
                text = json.dumps(self._recipe, indent=2, default=str)
                self._writer.add_text("recipe", f"```json\n{text}\n```", k)
        return self._writer
