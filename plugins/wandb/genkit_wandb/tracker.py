"""A run of Weights & Biases for each run of genkit."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING

import attrs
from attrs.validators import in_
from torch import Tensor

from genkit.errors import PluginError
from genkit.kinds import TrackedRun, setting

if TYPE_CHECKING:
    import wandb


@attrs.frozen(kw_only=True)
class Wandb:
    """Curves, figures and pictures for Weights & Biases.

    The study of a trial is its group there, the arm its job type. Steps are a figure of their own, `step`, by which all
    charts are drawn: W&B's own count takes no figure of an earlier step, and a resumed run has such figures.
    """

    project: str = setting("genkit", "the project there", identity=False)
    entity: str = setting("", "whose project it is, a user or a team; if empty, who is logged in", identity=False)
    mode: str = setting(
        "",
        "online, or offline, to be sent by `wandb sync`; if empty, as $WANDB_MODE says",
        check=in_(("", "online", "offline", "disabled")),
        identity=False,
    )

    def open(self, run: TrackedRun) -> Session:
        """The run of W&B whose id is the run's key: a new one, or the one that goes on.

        Raises:
            PluginError: The client is not installed.
        """
        client = _client()
        made = client.init(
            project=self.project,
            entity=self.entity or None,
            mode=self.mode or None,
            id=run.key,
            resume="allow",
            name=f"{run.arm or run.recipe['name']}, seed {run.recipe['train']['seed']}",
            group=run.study or None,
            job_type=run.arm[:64] or None,  # as long as W&B takes it
            config=dict(run.recipe),
            dir=str(run.folder),
            reinit="create_new",  # another that is open, as in a notebook, stays
            settings=client.Settings(console="off"),
        )
        made.define_metric("*", step_metric="step")
        return Session(made, client)


def _client() -> ModuleType:
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise PluginError("wandb", "is not installed", "python -m pip install wandb") from error
    return wandb


@attrs.frozen
class Session:
    """An open run of W&B."""

    run: wandb.Run
    client: ModuleType

    def scalars(self, k: int, figures: Mapping[str, float]) -> None:
        self.run.log({"step": k, **figures})

    def images(self, k: int, name: str, picture: Tensor) -> None:
        pixels = picture.cpu().permute(1, 2, 0).numpy()
        self.run.log({"step": k, name: self.client.Image(pixels, file_type="png")})

    def close(self, outcome: str) -> None:
        if outcome == "preempted":
            self.run.mark_preempting()
        self.run.finish(exit_code=int(outcome != "done"))
