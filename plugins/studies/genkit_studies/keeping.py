"""What is kept of a trial that is done: what its study needs to show it, and to evaluate it again."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import attrs

from genkit.data import records
from genkit.errors import CheckpointError
from genkit.kernel.recipe import Recipe
from genkit.runs import store
from genkit.training import checkpoint
from genkit_studies.study import Arm, Trial


def lean(arms: Iterable[Arm]) -> tuple[Arm, ...]:
    """Arms whose trials end with weights alone, unless their recipe says what `train.keep_final` is."""
    return tuple(
        arm
        if ("train", "keep_final") in arm.recipe.places
        else attrs.evolve(
            arm, recipe=attrs.evolve(arm.recipe, train=attrs.evolve(arm.recipe.train, keep_final="weights"))
        )
        for arm in arms
    )


def tidy(trial: Trial, recipe: Recipe, written: Iterable[Path]) -> None:
    """Remove what else a trial that is done has left: older checkpoints, its report, its recipe and log in the study.

    The best checkpoint stays, and so do those of `train.keep_every_steps`, and all of a run that is somebody's own, or
    whose `train.keep_final` is all.
    """
    folder = trial.folder
    if recipe.train.keep_final == "all" or not records.read(folder / "lock.json").get("trial"):
        return
    with suppress(CheckpointError), store.held(folder):  # somebody else may have taken it up
        for older in checkpoint.present(folder / "checkpoints")[:-1]:
            if not checkpoint.stays(older, recipe.train.keep_every_steps):
                shutil.rmtree(older)
        for path in (folder / "report.html", *written):
            path.unlink(missing_ok=True)
