"""A recipe with its data at hand: which run it is, and the state that it begins with."""

from __future__ import annotations

import functools
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import nn

from genkit import keys
from genkit.data import Resident, cache_folder, named, records
from genkit.denoiser import Denoiser, Program
from genkit.errors import PluginError, RecipeError
from genkit.evaluation import measuring
from genkit.kernel import discovery, registry
from genkit.kernel.identity import identity
from genkit.kernel.recipe import Recipe
from genkit.kinds import Context, Data, Setup, Spec
from genkit.runs import models, store
from genkit.runs.callbacks import Hooks
from genkit.training import checkpoint, processes
from genkit.training.state import State
from genkit.training.step import fitted


def _counted(data: Any) -> Spec:
    """The spec of data, with how many of its samples each class has, where they are labelled."""
    spec: Spec = data.spec
    labels = data.cond.get("label") if isinstance(data, Resident) else getattr(data, "labels", None)
    counts = () if labels is None or not spec.classes else labels.bincount(minlength=spec.classes).tolist()
    return attrs.evolve(spec, counts=counts)


@attrs.frozen(kw_only=True)
class Plan:
    """A recipe with its data at hand: everything that is known before a step is taken."""

    recipe: Recipe
    data: Data
    context: Context
    id: str
    folder: Path

    def program(self) -> Program:
        """The program with its starting weights, on the device; the default generator stays as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(keys.Key(self.recipe.train.seed).integer("init"))
            program = registry.build(self.recipe.objective, self.context)
        if not isinstance(program, Program):
            where = registry.named(registry.info_of(self.recipe.objective))
            raise PluginError(where, f"built {type(program).__name__}", "an objective owes a genkit.Program")
        if self.recipe.init.origin:
            models.start_from(program, self.recipe.init)
        return program.to(self.context.device)

    def state(self, newest: Path | None = None) -> State:
        """The state before the first step, or that of a checkpoint."""
        program = self.program()
        self.compile(program)
        state = State.of(program, self.recipe.optimizer, self.recipe.ema, self.recipe.averages)
        fitted(state, self.data, self.recipe.train, records.read(self.folder / "lock.json").get("micro_batch"))
        if newest:
            state.restore(*checkpoint.load(newest, self.context.device), newest)
        return state

    def compile(self, whole: nn.Module) -> None:
        """Compile the networks of a module's denoisers if the recipe says so; what is made is kept for later runs."""
        if mode := self.recipe.train.compile:
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
            chosen = torch._inductor.list_mode_options("default" if mode is True else mode)
            options = {**chosen, "deterministic": self.recipe.train.deterministic}
            for denoiser in (module for module in whole.modules() if isinstance(module, Denoiser)):
                denoiser.compile(options=options)

    def try_out(self) -> None:
        """Have it tried by plugins; raises GenkitError for what would end it later."""
        discovery.installed().manager.hook.genkit_try(planned=self)

    def notes(self, training: bool = True) -> list[str]:
        """What to say before time is spent: by its data and by plugins, and where the data are not the run's own."""
        there = records.read(self.folder / "lock.json").get("data", self.data.identity)
        what = f"{self.folder.name} was trained on data {there}, and these are {self.data.identity}"
        told = [] if there == self.data.identity else [f"{what}: figures tell of these, apart from the run's own"]
        told += getattr(self.data, "notices", ()) if training else ()
        told += ["the first step waits for a compiler"] * bool(training and self.recipe.train.compile)
        given = Hooks(lambda **what: None)("genkit_notes", planned=self, training=training)
        return told + [text for texts in given for text in texts or ()]

    def calls(self) -> int:
        """The network calls of one evaluation, each for one sample."""
        settings, sampler = self.recipe.evaluate, registry.build(self.recipe.objective.sampler, self.context)
        calls: int = sum(sampler.nfe(n) for n in settings.steps)
        return calls * settings.count * len(settings.all_seeds)

    def settled(self) -> AbstractContextManager[int]:
        """Threads and kernels of the recipe while it lasts; a recorded run keeps its number of threads."""
        recorded = records.read(self.folder / "lock.json").get("threads")
        return processes.settled(self.recipe.train, recorded, self.data.spec.size <= 256)


def plan(recipe: Recipe, out: Path | None = None, device: str | None = None) -> Plan:
    """Load the data and find out which run this is.

    Raises:
        GenkitError: Data, device or starting weights are not to be had.
    """
    device = processes.start(processes.pick_device(device), recipe.train.timeout_min)
    if recipe.train.batch_size % processes.world():
        what = f"{recipe.train.batch_size} samples do not divide evenly over {processes.world()} processes"
        raise RecipeError("train.batch_size", what, "choose a multiple")
    told = named.setup_of(recipe, device)
    data = registry.build(recipe.dataset, Setup(**told))
    context = Context(
        **told,
        spec=_counted(data),
        data=data.identity,
        dataset=recipe.dataset,
        total_steps=recipe.train.steps,
        load=functools.partial(models.load_source, device=device),
    )
    if recipe.metrics:
        measuring.require(recipe, context, data)
    id = identity(recipe, data.identity, models.content)
    folder = Path(out) if out else store.root() / f"{recipe.name}-{id}"
    return Plan(recipe=recipe, data=data, context=context, id=id, folder=folder)
