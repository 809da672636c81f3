"""Pictures and figures of a run, from its averaged or raw weights, put on record."""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genkit import keys
from genkit.data import records
from genkit.evaluation import images, measuring, pictures, results, sampling, scoring
from genkit.kernel.recipe import Recipe
from genkit.runs import lock
from genkit.runs.callbacks import Hooks
from genkit.runs.planning import Plan
from genkit.training import checkpoint
from genkit.training.state import State

SAMPLES_SHOWN = 64


def show(planned: Plan, state: State, name: str, hooks: Hooks) -> None:
    """Grids of samples from fixed latents."""
    with state.sampled(planned.recipe.evaluate.weights):
        for n in planned.recipe.evaluate.steps:
            x0 = sampling.sample(state.program.student, _shown(planned), n, planned.recipe.evaluate.seed)
            image = pictures.picture(measuring.images(x0, planned.data, planned.recipe.evaluate.protocol))
            _write(planned, f"{name}-steps{n}", image)
            hooks.trackers.images(state.k, f"samples-steps{n}", image)


def show_data(planned: Plan) -> None:
    """A grid of as many training images, the first that a training meets, to see samples beside."""
    n, seed = len(planned.data), planned.recipe.train.seed
    met = keys.order(seed, 0, min(_shown(planned), n), n)
    _write(planned, "data", pictures.picture(images.rows(planned.data, met).x))


def _shown(planned: Plan) -> int:
    return 4096 if planned.data.spec.shape[1:] == (1, 1) else SAMPLES_SHOWN


def _write(planned: Plan, name: str, image: Tensor) -> None:
    pictures.write(planned.folder / "samples" / f"{name}.png", image, max(1, 256 // image.shape[-1]))


def measured(planned: Plan, state: State, watch: scoring.Watch = lambda what, done, total: None) -> dict[str, Any]:
    """Figures of the present weights, on no record."""
    with state.sampled(planned.recipe.evaluate.weights):
        return measuring.of_recipe(state.program.student, planned.data, planned.recipe, planned.context, watch)


def recorded(
    planned: Plan, state: State, hooks: Hooks, watch: scoring.Watch = lambda what, done, total: None
) -> dict[str, Any]:
    """Evaluate the present weights, keep their checkpoint if they are the best so far, and record it."""
    found = measured(planned, state, watch)
    wanted, folder = planned.recipe.evaluate.best, planned.folder / "checkpoints"
    if wanted and found["steps"]:
        protocol, best = evaluation_file(planned.folder, planned.recipe).stem, checkpoint.best(folder)
        other = best.get("protocol", protocol) != protocol
        last = state.k == planned.recipe.train.steps  # alone it is no best, where there is one by another protocol
        if measuring.improves(found, wanted, {} if other else best) and not (other and last):
            save(planned, state, hooks)
            value = results.figures_of(found)[wanted]
            checkpoint.pin(folder, state.k, figure=wanted, value=value, protocol=protocol)
            hooks.tell(event="notice", text=f"step {state.k} is the best so far by {wanted}: its checkpoint stays")
    return put(planned, found, state.k, hooks)


def save(planned: Plan, state: State, hooks: Hooks) -> None:
    """A checkpoint of the present step, unless there is one; it stands afterwards."""
    if state.k not in map(checkpoint.step_of, checkpoint.present(planned.folder / "checkpoints")):
        with Saver(planned, hooks) as saver:
            saver.save(state)


class Saver(AbstractContextManager["Saver"]):
    """Saves checkpoints behind a training, one at a time: it waits only for a copy of its tensors, and at the end.

    What a card holds is copied behind the training, too, into pinned memory: on the card, the next step comes after it.
    """

    def __init__(self, planned: Plan, hooks: Hooks) -> None:
        self.planned, self.hooks = planned, hooks
        self._thread = ThreadPoolExecutor(1)
        self._begun: list[Future[Path]] = []
        self._own: dict[str, Tensor] = {}  # the copy, kept: fresh memory takes longer to touch than to fill

    def __exit__(self, *error: object) -> None:
        self.wait()

    @torch.no_grad()
    def save(self, state: State, wait: bool = False) -> None:
        """Begin with a checkpoint of the present step, once the one before stands; and `wait` until it stands.

        Raises:
            CheckpointError: It, or the one before, could not be written.
        """
        if self._begun:
            self._begun[-1].result()
        now, was, pin = state.tensors(), self._own, state.bad.is_cuda
        own = {n: was[n] if n in was else torch.empty(t.shape, dtype=t.dtype, pin_memory=pin) for n, t in now.items()}
        torch._foreach_copy_([*own.values()], [*now.values()], non_blocking=pin)
        copied = torch.cuda.current_stream(state.bad.device).record_event().synchronize if pin else lambda: None
        self._own, train, folder = own, self.planned.recipe.train, self.planned.folder / "checkpoints"
        what = folder, state.k, own, state.numbers(), train.keep_checkpoints, train.keep_every_steps
        self._begun.append(self._thread.submit(_written, copied, *what))
        self.wait(ready=not wait)

    def wait(self, ready: bool = False) -> None:
        """Until all that was begun stands, and then tell of it; with `ready`, only of what stands already.

        Raises:
            CheckpointError: It could not be written.
        """
        if not ready:
            futures.wait(self._begun)
        while self._begun and self._begun[0].done():
            k = checkpoint.step_of(path := self._begun.pop(0).result())
            key = keys.Key(self.planned.recipe.train.seed, k)
            self.hooks("genkit_checkpoint_saved", folder=self.planned.folder, checkpoint=path, key=key)
            self.hooks.tell(event="checkpoint", k=k)


def _written(copied: Callable[[], object], *what: Any) -> Path:
    """A checkpoint, once its tensors have come from the card."""
    copied()
    return checkpoint.save(*what)


def is_final(planned: Plan, found: dict[str, Any]) -> bool:
    """Whether an evaluation is that of the last step, at every number of sampling steps, with its pictures."""
    wanted = [str(n) for n in planned.recipe.evaluate.steps]
    pictures = all((planned.folder / "samples" / f"final-steps{n}.png").is_file() for n in wanted)
    measured = found.get("k") == planned.recipe.train.steps and set(wanted) <= set(found["steps"])
    return pictures and (measured or not planned.recipe.metrics)


def evaluation_file(folder: Path, recipe: Recipe, at: str = "", data: str = "") -> Path:
    """Where a run keeps its evaluation by the recipe's protocol.

    Args:
        at: Says of which checkpoint, if not the newest.
        data: Identity of what it is held against, if that may not be what the run was trained on.
    """
    trained_on = records.read(folder / "lock.json").get("data")
    other = f"-on-{data[:8]}" if data not in ("", trained_on) else ""
    return folder / "evaluations" / f"{measuring.name_of(recipe, _counts(folder))}{other}{at}.json"


def _counts(folder: Path) -> list[int]:
    """How often each class came in training, as far as the run knows."""
    return list(records.read(folder / "lock.json").get("spec", {}).get("counts", ()))


def put(planned: Plan, found: dict[str, Any], k: int, hooks: Hooks, at: str = "") -> dict[str, Any]:
    """An evaluation on record, with all that its figures depend on."""
    if not planned.recipe.metrics:
        return found
    path = evaluation_file(planned.folder, planned.recipe, at, planned.data.identity)
    made = measuring.protocol_of(planned.recipe, _counts(planned.folder))
    protocol = {"name": path.stem, **made, "data": planned.data.identity}
    protocol |= {name: found[name] for name in measuring.OF_PROTOCOL}
    known = records.read(path, records.ANEW)
    if known.get("k") == k and known.get("protocol") == protocol:  # other numbers of steps stay
        found = {**found, "steps": {**known["steps"], **found["steps"]}}
    rest = {name: value for name, value in found.items() if name not in measuring.OF_PROTOCOL}
    whole = {"protocol": protocol, "made_with": lock.made_with(planned), "k": k, **rest}
    figures = results.figures_of(whole)
    hooks.tell(event="evaluated", k=k, protocol=path.stem, figures=figures, seconds=found["seconds"])
    hooks.trackers.scalars(k, figures)
    records.write(path, whole)  # after it was told: once it stands, a run that goes on does not evaluate again
    key = keys.Key(planned.recipe.train.seed, k)
    for texts in hooks("genkit_evaluated", folder=planned.folder, figures=figures, key=key):
        for text in texts or ():
            hooks.tell(event="notice", text=text)
    return whole
