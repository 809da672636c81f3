"""Event files for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs
from attrs.validators import gt
from torch import Tensor

from genkit.kinds import TrackedRun, setting

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@attrs.frozen(kw_only=True)
class TensorBoard:
    """Curves and pictures for TensorBoard, in the run folder.

    They go to `tensorboard/` of the run folder: `tensorboard --logdir runs` shows all runs.
    """

    flush_sec: int = setting(30, "seconds after which what was told is on disk", check=gt(0), identity=False)

    def open(self, run: TrackedRun) -> Session:
        """A run's event files; what an earlier process told of the steps that are taken again is hidden."""
        from torch.utils.tensorboard import SummaryWriter

        folder = run.folder / "tensorboard"
        begun = any(folder.glob("events.out.tfevents.*"))
        again = run.k + 1 if begun else None  # TensorBoard forgets what it was told from this step on
        writer = SummaryWriter(str(folder), purge_step=again, flush_secs=self.flush_sec)
        if not begun:
            writer.add_text("recipe", f"```json\n{json.dumps(run.recipe, indent=2, default=str)}\n```", run.k)
        if run.study:
            writer.add_text("study", f"{run.study}: {run.arm}", run.k)
        return Session(writer)


@attrs.frozen
class Session:
    """A run's event files."""

    writer: SummaryWriter

    def scalars(self, k: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self.writer.add_scalar(name, float(value), k)

    def images(self, k: int, name: str, picture: Tensor) -> None:
        self.writer.add_image(name, picture.cpu(), k)

    def close(self, outcome: str) -> None:
        self.writer.close()
