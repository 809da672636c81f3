"""Pictures and figures of a run, from its averaged or raw weights, put on record; also of a run that is done."""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from genkit import keys
from genkit.data import records
from genkit.evaluation import measuring, pictures, results, sampling, scoring
from genkit.kernel.recipe import Recipe, other_evaluation
from genkit.runs import lock, models, store
from genkit.runs.callbacks import Hooks, Trackers
from genkit.runs.planning import Plan, plan
from genkit.training import checkpoint, processes
from genkit.training.state import State

SAMPLES_SHOWN = 64
Watch = Callable[[dict[str, Any]], None]


def show(planned: Plan, state: State, name: str, trackers: Trackers | None = None) -> None:
    """Grids of samples from fixed latents."""
    denoiser = state.program.student
    with state.sampled(planned.recipe.evaluate.weights):
        for n in planned.recipe.evaluate.steps:
            count = 4096 if planned.data.spec.shape[1:] == (1, 1) else SAMPLES_SHOWN
            x0 = sampling.sample(denoiser, count, n, planned.recipe.evaluate.seed)
            image = pictures.picture(measuring.images(x0, planned.data, planned.recipe.evaluate.protocol))
            pictures.write(planned.folder / "samples" / f"{name}-steps{n}.png", image, max(1, 256 // image.shape[-1]))
            if trackers:
                trackers.images(state.k, f"samples-steps{n}", image)


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
    """Saves checkpoints behind a training, one at a time: it waits only for a copy of its tensors, and at the end."""

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
        was = self._own
        self._own = {n: was.get(n, torch.empty(t.shape, dtype=t.dtype)).copy_(t) for n, t in state.tensors().items()}
        folder, train = self.planned.folder / "checkpoints", self.planned.recipe.train
        kept = train.keep_checkpoints, train.keep_every_steps
        self._begun.append(self._thread.submit(checkpoint.save, folder, state.k, self._own, state.numbers(), *kept))
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
    records.write(path, whole)
    figures = results.figures_of(whole)
    hooks.tell(event="evaluated", k=k, protocol=path.stem, figures=figures, seconds=found["seconds"])
    key = keys.Key(planned.recipe.train.seed, k)
    for texts in hooks("genkit_evaluated", folder=planned.folder, figures=figures, key=key):
        for text in texts or ():
            hooks.tell(event="notice", text=text)
    return whole


# ---- runs that are there -------------------------------------------------------------------------


def evaluate(
    run: str | Path,
    *,
    at: str = "latest",
    device: str | None = None,
    watch: Watch = lambda event: None,
    **settings: Any,
) -> dict[str, Any]:
    """Evaluate a run, as its recipe says or with other settings of the table [evaluate]; it is recorded.

    Under torchrun every process draws its share, and the first one records.

    Args:
        at: Which checkpoint: "latest", "best", or a step.

    Returns:
        {"protocol": …, "steps": {"1": {"figures": {"fd.fd": …}, "nfe": 1}}}

    Raises:
        GenkitError: The run has no such checkpoint, or its recipe names no metrics.
    """
    folder, recipe = models.reopen(run)
    measuring.require_metrics(recipe.metrics)
    recipe = attrs.evolve(recipe, evaluate=other_evaluation(recipe.evaluate, settings))
    planned = plan(recipe, folder, device)
    first = processes.rank() == 0

    with store.held(folder) if first else nullcontext(), planned.threads():
        chosen, newest = (checkpoint.chosen(folder / "checkpoints", which) for which in (at, "latest"))
        k, suffix = checkpoint.step_of(chosen), "" if chosen == newest else f"@{checkpoint.step_of(chosen)}"
        denoiser = models.load(folder, recipe.evaluate.weights, planned.context.device, str(k))
        if recipe.train.compile:
            denoiser.compile()
        for text in (*planned.notes(training=False), *sampling.unrecorded(denoiser)):
            watch({"event": "notice", "text": text})
        found = measuring.of_recipe(denoiser, planned.data, recipe, planned.context, scoring.progress(watch))
        if not first:
            return found
        hooks = Hooks(lambda **what: watch(store.event(folder, **what)))
        found = put(planned, found, k, hooks, suffix)
    hooks("genkit_report", folder=folder)
    return found
