"""A recipe with its data at hand: which run it is, and the state that it begins with."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from pathlib import Path

import attrs
import torch

from genkit import keys
from genkit.data import named, records
from genkit.denoiser import Denoiser, Program
from genkit.errors import RecipeError
from genkit.evaluation import measuring
from genkit.kernel import registry
from genkit.kernel.identity import identity
from genkit.kernel.recipe import Recipe
from genkit.kinds import Context, Data, Setup
from genkit.runs import models, store
from genkit.training import processes
from genkit.training.state import State


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
            program: Program = registry.build(self.recipe.objective, self.context)
        if self.recipe.init.origin:
            models.start_from(program, self.recipe.init)
        return program.to(self.context.device)

    def state(self) -> State:
        """The state before the first step."""
        program = self.program()
        if self.recipe.train.compile:
            for module in program.modules():
                if isinstance(module, Denoiser):
                    module.compile()
        return State.of(program, self.recipe.optimizer, self.recipe.ema)

    def threads(self) -> AbstractContextManager[int]:
        """CPU threads while it lasts; a recorded run keeps its number of them."""
        recorded = records.read(self.folder / "lock.json").get("threads")
        return processes.threads(self.recipe.train.threads or recorded, self.data.spec.size <= 256)


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
        spec=data.spec,
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
