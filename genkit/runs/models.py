"""Trained models by name: runs that are there, and weights that others start from."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from genkit.data import records, weights
from genkit.data.files import sha256
from genkit.data.named import setup_of
from genkit.denoiser import Denoiser, Program
from genkit.errors import CheckpointError, DataError, GenkitError, PluginError, RecipeError
from genkit.kernel import discovery, registry
from genkit.kernel.loading import resolved
from genkit.kernel.recipe import Recipe
from genkit.kernel.tables import Layers
from genkit.kernel.toml import Place, Places, hoist
from genkit.kinds import Context, Source, Spec, names
from genkit.runs import store
from genkit.training import checkpoint, processes
from genkit.training.state import below, place, require_fit


def reopen(run: str | Path, lenient: bool = False) -> tuple[Path, Recipe]:
    """A run's folder and its resolved recipe.

    Args:
        lenient: Components of plugins that are gone get a stand-in, which may serve as long as nothing asks for it.

    Raises:
        GenkitError: There is no such run, or its plugins are gone.
    """
    folder = store.find(run)
    tree = store.recipe_file(folder)
    shown = str(folder / "recipe.toml")
    places = Places({(name,): Place(shown, None, folder) for name in tree})
    places.lenient = lenient
    with made_with(folder):
        return folder, resolved(Layers(hoist(tree, shown), places, set()))


@contextmanager
def made_with(folder: Path) -> Iterator[None]:
    """What a run's recipe lacks is told with the distributions that the run was made with, as far as they are gone.

    Raises:
        PluginError: Something is lacking, and one of them is not installed.
    """
    try:
        yield
    except GenkitError as error:
        here = {plugin.distribution for plugin in discovery.installed().all}
        gone = {d: v for d, v in records.read(folder / "lock.json").get("plugins", {}).items() if d not in here}
        if not gone:
            raise
        made = names(f"{distribution} {version}" for distribution, version in gone.items())
        raise PluginError(folder, f"of what it was made with, {made} is not installed", str(error)) from error


def load(run: str | Path, weights: str = "ema", device: str | None = None, at: str = "latest") -> Denoiser:
    """The denoiser of a run at a checkpoint, in eval mode; no data are needed. Or that of a file, as it is.

    Args:
        weights: "ema", "raw", or the name of another average, be it one that was made afterwards.
        at: Which checkpoint: "latest", "best", or a step.

    Raises:
        GenkitError: There is no such run, or it has no such checkpoint or weights.
    """
    exported: Denoiser | None = discovery.installed().manager.hook.genkit_model(path=Path(run))
    if exported is not None:
        return exported.to(processes.pick_device(device)).eval()
    folder, recipe = reopen(run, lenient=True)
    path = checkpoint.chosen(folder / "checkpoints", at)
    there = [*recipe.weights, *(file.stem for file in path.glob("averages/*.safetensors"))]
    if weights not in there:
        raise RecipeError("weights", f"{folder.name} has none named {weights!r}", f"it has {names(there)}")
    lock = records.read(folder / "lock.json")
    try:
        spec, data = Spec(**lock["spec"]), str(lock["data"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(folder / "lock.json", f"is damaged ({error})", "restore it") from error
    device = processes.pick_device(device)
    context = Context(
        **setup_of(recipe, device),
        spec=spec,
        data=data,
        total_steps=recipe.train.steps,
        load=functools.partial(load_source, device=device),
        training=False,
    )
    tensors, _ = checkpoint.load(path, "cpu")
    with torch.random.fork_rng(devices=[]):
        program: Program = registry.build(recipe.objective, context)
    require_fit(program, tensors, path, [name for name in recipe.weights if name != "raw"])
    program.load_state_dict(below(tensors, "program/"))
    if weights not in recipe.weights:
        start_from(program, Source(origin=str(derived(path, weights))))
    elif weights != "raw":
        program.student.network.load_state_dict(below(tensors, place(weights)), strict=False)
    program.student.objective = recipe.objective
    return program.student.to(device).eval()


def derived(path: Path, weights: str) -> Path:
    """The file of an average that was made afterwards of a checkpoint's run, by its name; it lies in the checkpoint."""
    return path / "averages" / f"{weights}.safetensors"


def load_source(source: Source, device: str | None = None) -> Denoiser:
    """The frozen denoiser that a recipe names: RUN, or recipe:NAME for the finished run of a recipe.

    Raises:
        DataError: There is no such run; says how to make it.
    """
    return load(_run_of(source), source.weights, device).requires_grad_(False)


def _run_of(source: Source) -> Path:
    name, path = source.origin.removeprefix("recipe:"), Path(source.origin)
    if name == source.origin:
        return path if path.exists() else store.find(name)
    done = [s for s in store.runs() if s.name == name and s.k >= s.steps > 0 and not s.trial]
    if not done:
        raise DataError(source.origin, "has no finished run here", f"make it: genkit run {name}")
    return done[0].folder


def content(source: Source) -> str:
    """Identity of starting weights."""
    path = Path(source.origin)
    if files := store.weights_in(path):
        if not files[0].is_file():
            raise DataError(path, "no such weights file", "check init.from")
        return "+".join(map(sha256, files))
    folder = _run_of(source)
    newest, _ = checkpoint.latest(folder / "checkpoints")
    if newest and (made := derived(newest, source.weights)).is_file():
        return sha256(made)
    k = checkpoint.step_of(newest) if newest else 0  # a run that is still going changes what it gives
    return f"{records.read(folder / 'lock.json')['id']}@{k}/{source.weights}"


def start_from(program: Program, source: Source) -> None:
    """Give the student the weights of a run or a file; all of them, or none.

    Raises:
        DataError: A tensor is missing, surplus, of another shape or not finite, or the file is damaged.
    """
    path = Path(source.origin)
    if path.suffix == ".safetensors":
        state = weights.load(path)
    else:
        state = load(_run_of(source), source.weights, "cpu").network.state_dict()
    state, prefix = weights.unwrapped(program.student.network, state)
    if prefix:
        program.notices += (f"{source.origin}: every name begins with {prefix!r}, which is left out",)
    state, told = getattr(program.student.network, "adapted", lambda state: (state, ()))(state)
    program.notices += tuple(f"{source.origin}: {line}" for line in told)
    weights.fit(program.student.network, state, source.origin)
    program.student.network.load_state_dict(state)
    program.started()
