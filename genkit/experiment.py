"""The story of a run: recipe, data, program, training, figures, report; and runs that are done."""

from __future__ import annotations

import functools
import os
import platform
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

import genkit
from genkit import checkpoint, distributed, evaluation, keys, pictures, plugins, record, registry, report, sampling
from genkit.denoiser import Denoiser, Program
from genkit.errors import CheckpointError, DataError, Diverged, GenkitError, HardwareError, RecipeError, Stopped
from genkit.kinds import Context, Data, Setup, Source, Spec
from genkit.recipe import Evaluate, Recipe, identity, load_recipe, resolved
from genkit.resolve import plain
from genkit.state import State
from genkit.tables import Layers, Place, Places, hoist
from genkit.training import require_finite, train

Watch = Callable[[dict[str, Any]], None]
SAMPLES_SHOWN = 64


@attrs.frozen(kw_only=True)
class RunResult:
    """What a run came to: its folder, its id, and figures such as {"fd.fd@1": 0.7}."""

    folder: Path
    id: str
    figures: dict[str, float]
    evaluation: dict[str, Any]
    notices: tuple[str, ...] = ()


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
            torch.manual_seed(keys.Key(self.recipe.train.seed).integer("init"))
            program: Program = registry.build(self.recipe.objective, self.context)
        if self.recipe.init.origin:
            _start_from(program, self.recipe.init)
        return program.to(self.context.device)


# ---- preparing -----------------------------------------------------------------------------------


def plan(recipe: Recipe, out: Path | None = None, device: str | None = None) -> Plan:
    """Load the data and find out which run this is.

    Raises:
        GenkitError: Data, device or starting weights are not to be had.
    """
    device = distributed.start(_device(device))
    if recipe.train.batch_size % distributed.world():
        raise RecipeError("train.batch_size", f"{recipe.train.batch_size} samples do not divide evenly over "
                          f"{distributed.world()} processes", "choose a multiple")
    setup = Setup(device=device, seed=recipe.train.seed, levels=recipe.levels, cache_dir=cache_dir(), folder=Path.cwd())
    data = registry.build(recipe.dataset, setup)
    context = Context(**{f.name: getattr(setup, f.name) for f in attrs.fields(Setup)}, spec=data.spec,
                      data=data.identity, total_steps=recipe.train.steps, load=functools.partial(load_source, device=device))
    init = _content(recipe.init) if recipe.init.origin else ""
    id = identity(recipe, data.identity, init)
    folder = Path(out) if out else record.root() / f"{recipe.name}-{id}"
    return Plan(recipe=recipe, data=data, context=context, id=id, folder=folder)


def cache_dir() -> Path:
    """`$GENKIT_CACHE`, else `genkit` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("GENKIT_CACHE") or Path(base) / "genkit")


def _device(wanted: str | None) -> str:
    device = wanted or ("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = device.partition(":")
    present = {
        "cpu": lambda: True,
        "cuda": lambda: torch.cuda.is_available() and int(index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available,
    }
    if kind not in present or (index and not index.isdigit()):
        raise HardwareError("--device", f"{device!r} is no device", "cpu, cuda, cuda:1 or mps")
    if not present[kind]():
        raise HardwareError("--device", f"{device} is not here", "choose another, or leave the choice to genkit")
    return device


# ---- running -------------------------------------------------------------------------------------


def run(
    recipe: Recipe | str | Path,
    out: str | Path | None = None,
    *,
    device: str | None = None,
    fresh: bool = False,
    again: bool = False,
    trial: bool = False,
    watch: Watch = lambda event: None,
) -> RunResult:
    """Train what a recipe says, evaluate it and write its report; go on, or report, where that is begun.

    Args:
        out: The run folder itself; by default one named after recipe and id in `runs`.
        fresh: Rename a folder that is there, and start anew.
        again: Repeat in a folder of its own.
        trial: Mark the run as part of a study.
        watch: Called with each event as it is recorded.

    Raises:
        Diverged: The loss stopped being finite.
        Stopped: A signal came; the run can be resumed.
        GenkitError: Anything else that the user can mend.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    planned = plan(recipe, Path(out) if out else None, device)
    if again:
        planned = attrs.evolve(planned, folder=_unused(planned.folder))
    if distributed.rank() > 0:
        return _follow(planned)
    if fresh and planned.folder.exists():
        planned.folder.rename(_unused(planned.folder.with_name(planned.folder.name + ".old")))
    with record.held(planned.folder):
        return _run(planned, trial, watch)


def _unused(folder: Path) -> Path:
    names = (folder.with_name(f"{folder.name}-{i}") for i in range(2, 10_000))
    return folder if not folder.exists() else next(name for name in names if not name.exists())


def _follow(planned: Plan) -> RunResult:
    """What a process other than the first does: the same steps, nothing recorded."""
    state = _state(planned)
    path, _ = checkpoint.latest(planned.folder / "checkpoints")
    if path:
        state.restore(*checkpoint.load(path, planned.context.device))
    with _signals() as stop:
        for _ in train(state, planned.data, planned.recipe.train):
            if _due(planned.recipe, state.k, stop):
                require_finite(state)
                if distributed.any_of(stop.signal is not None):
                    raise _stopped(planned, state.k, stop.signal or signal.SIGTERM)
            if _evaluate_due(planned.recipe, state.k):
                _measure(planned, state, lambda done, total: None)
    result = _measure(planned, state, lambda done, total: None)
    return RunResult(folder=planned.folder, id=planned.id, figures=record.figures_of(result), evaluation=result)


def _run(planned: Plan, trial: bool, watch: Watch) -> RunResult:
    recipe, folder = planned.recipe, planned.folder
    notices = _claim(planned, trial)
    checkpoint.sweep(folder / "checkpoints")
    newest, passed = checkpoint.latest(folder / "checkpoints")
    state = None
    if newest is None or checkpoint.step_of(newest) < recipe.train.steps:
        with _threads(planned) as threads:
            state = _state(planned)
            notices += _lock(planned, state, threads, trial)
            _train(planned, state, newest, [*passed, *notices], watch)
        newest, _ = checkpoint.latest(folder / "checkpoints")
    with _threads(planned):
        evaluated = _evaluated(planned, state, newest, watch)
    report.write(folder)
    return RunResult(folder=folder, id=planned.id, figures=record.figures_of(evaluated), evaluation=evaluated,
                     notices=(*recipe.notices, *notices))


def _claim(planned: Plan, trial: bool) -> list[str]:
    """Make the folder this run's, or refuse.

    Raises:
        CheckpointError: It holds another run.
    """
    folder, lock = planned.folder, record.read(planned.folder / "lock.json")
    if lock and lock.get("id") != planned.id:
        raise CheckpointError(folder, f"holds another run, {lock.get('id')}; this one is {planned.id}",
                              "choose another --out, or --fresh to rename it")
    if not lock and any(p.name != ".lock" for p in folder.iterdir()):
        raise CheckpointError(folder, "is not empty and holds no run", "choose another --out")
    record.write(folder / "recipe.toml", planned.recipe.toml())
    if not lock:
        return []
    then, now = lock.get("plugins", {}), _versions()
    return [f"made with {name} {then[name]}, going on with {now.get(name, 'none')}"
            for name in then if then[name] != now.get(name)]


def _versions() -> dict[str, str]:
    return {p.distribution: p.version for p in plugins.installed().all if p.state == "loaded"}


def _lock(planned: Plan, state: State, threads: int, trial: bool) -> list[str]:
    """Write what the run is made with; what differs from when it began."""
    path = planned.folder / "lock.json"
    before = record.read(path)
    now = {
        "device": planned.context.device, "threads": threads, "world_size": distributed.world(),
        "micro_batch": planned.recipe.train.micro_batch, "torch": torch.__version__,
    }
    changed = [f"begun with {name} {before[name]}, going on with {value}: equal, but not bit for bit"
               for name, value in now.items() if before and before.get(name) != value]
    lock = {
        "name": planned.recipe.name, "id": planned.id, "steps": planned.recipe.train.steps, **now,
        "genkit": genkit.__version__, "python": platform.python_version(), "plugins": _versions(), "git": _git(),
        "spec": attrs.asdict(planned.data.spec), "data": planned.data.identity, "samples": len(planned.data),
        "parameters": sum(p.numel() for p in state.program.student.parameters()),
        "trial": before.get("trial", trial) and trial, "created": before.get("created", time.time()),
        "notices": list(planned.recipe.notices),
    }
    record.write(path, _json(lock))
    return changed


def _json(value: Any) -> str:
    import json

    return json.dumps(value, indent=1)


def _git() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()


def _state(planned: Plan) -> State:
    program = planned.program()
    if planned.recipe.train.compile:
        for module in program.modules():
            if isinstance(module, Denoiser):
                module.compile()
    return State.of(program, planned.recipe.optimizer, planned.recipe.ema)


@contextmanager
def _threads(planned: Plan) -> Iterator[int]:
    """The number of threads for a run on the CPU, set while it lasts.

    A recorded run keeps its number. A small network gains nothing from a second thread and can lose much
    on a busy machine, so it gets one.
    """
    before = torch.get_num_threads()
    recorded = record.read(planned.folder / "lock.json").get("threads")
    small = planned.data.spec.size <= 256
    threads = planned.recipe.train.threads or recorded or (1 if small else before)
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)


def _train(planned: Plan, state: State, newest: Path | None, notices: list[str], watch: Watch) -> None:
    """From the newest checkpoint to the last step, with a checkpoint at the end."""
    recipe, folder = planned.recipe, planned.folder

    def tell(**what: Any) -> None:
        watch(record.event(folder, **what))

    if newest:
        state.restore(*checkpoint.load(newest, planned.context.device))
    tell(event="resume" if newest else "start", k=state.k, steps=recipe.train.steps,
         batch_size=recipe.train.batch_size, sampling_calls=_sampling_calls(planned, state.k))
    for text in notices:
        tell(event="notice", text=text)
    hook = plugins.installed().manager.hook
    key = keys.Key(recipe.train.seed, state.k)
    hook.genkit_run_start(folder=folder, recipe=recipe, key=key)
    outcome = "failed"
    with _signals() as stop, _trackers(planned, tell) as trackers:
        try:
            _steps(planned, state, stop, trackers, tell)
            outcome = "trained"
        except (Diverged, Stopped) as error:
            outcome = "diverged" if isinstance(error, Diverged) else "preempted"
            tell(event="end", outcome=outcome, k=state.k, text=str(error))
            raise
        finally:
            hook.genkit_run_end(folder=folder, outcome=outcome, key=keys.Key(recipe.train.seed, state.k))


def _steps(planned: Plan, state: State, stop: _Signals, trackers: _Trackers, tell: Callable[..., None]) -> None:
    recipe, settings = planned.recipe, planned.recipe.train
    hook = plugins.installed().manager.hook.genkit_step_end
    watched = bool(hook.get_hookimpls())
    begun, since, first = time.monotonic(), time.monotonic(), state.k
    for figures in train(state, planned.data, settings):
        k = state.k
        if watched:
            hook(state=state, figures=figures, key=keys.Key(settings.seed, k - 1))
        if not _due(recipe, k, stop):
            continue
        require_finite(state)
        if k % settings.log_every_steps == 0 or k == settings.steps:
            now = time.monotonic()
            plain_figures = {name: float(value) for name, value in figures.items()}
            tell(event="step", k=k, figures=plain_figures, elapsed=round(now - begun, 3),
                 images_per_sec=round((k - first) * settings.batch_size / (now - since), 1))
            trackers.scalars(k, plain_figures)
            since, first = now, k
        halt = distributed.any_of(stop.signal is not None)
        if halt or k % settings.save_every_steps == 0 or k == settings.steps:
            _save(planned, state, tell)
        if settings.sample_every_steps and k % settings.sample_every_steps == 0:
            _show(planned, state, f"step-{k:07d}", trackers)
        if _evaluate_due(recipe, k):
            _record_evaluation(planned, _measure(planned, state, lambda done, total: None), k, tell)
        if halt:
            raise _stopped(planned, k, stop.signal or signal.SIGTERM)


def _sampling_calls(planned: Plan, k: int) -> int:
    """Network calls of all evaluations still to come, times samples: for the time left."""
    if not planned.recipe.metrics:
        return 0
    settings, total = planned.recipe.evaluate, planned.recipe.train.steps
    sampler = registry.build(planned.recipe.objective.sampler, planned.context)
    between = (total - 1) // settings.every_steps - k // settings.every_steps if settings.every_steps else 0
    return (between + 1) * settings.samples * sum(sampler.nfe(n) for n in settings.steps)


def _due(recipe: Recipe, k: int, stop: _Signals) -> bool:
    """Whether something besides training happens after step k, on every process alike."""
    t = recipe.train
    every = [t.log_every_steps, t.save_every_steps, t.sample_every_steps, recipe.evaluate.every_steps]
    alone = distributed.world() == 1 and stop.signal is not None
    return alone or k == t.steps or any(n and k % n == 0 for n in every)


def _evaluate_due(recipe: Recipe, k: int) -> bool:
    every = recipe.evaluate.every_steps
    return bool(recipe.metrics) and every > 0 and k % every == 0 and k < recipe.train.steps


def _save(planned: Plan, state: State, tell: Callable[..., None]) -> None:
    path = checkpoint.save(planned.folder / "checkpoints", state.k, state.tensors(), state.numbers(),
                           planned.recipe.train.keep_checkpoints)
    plugins.installed().manager.hook.genkit_checkpoint_saved(
        folder=planned.folder, checkpoint=path, key=keys.Key(planned.recipe.train.seed, state.k))
    tell(event="checkpoint", k=state.k)


def _stopped(planned: Plan, k: int, number: int) -> Stopped:
    name, code = signal.Signals(number).name, 130 if number == signal.SIGINT else 75
    return Stopped(planned.folder, f"{name} after step {k}; saved", "the same command resumes", code)


# ---- showing and measuring -----------------------------------------------------------------------


@contextmanager
def _weights(state: State, which: str) -> Iterator[Denoiser]:
    """The student with averaged or raw weights, in eval mode, as it was afterwards."""
    student = state.program.student
    if which == "ema":
        with state.average.swapped():
            yield student
        return
    training = student.training
    student.eval()
    try:
        yield student
    finally:
        student.train(training)


def _show(planned: Plan, state: State, name: str, trackers: _Trackers | None = None) -> None:
    """Grids of samples from fixed latents."""
    with _weights(state, planned.recipe.evaluate.weights) as denoiser:
        for n in planned.recipe.evaluate.steps:
            count = 4096 if planned.data.spec.shape[1:] == (1, 1) else SAMPLES_SHOWN
            x0 = sampling.sample(denoiser, count, n, planned.recipe.evaluate.seed)
            image = pictures.picture(planned.data.decode(x0))
            scale = max(1, 256 // image.shape[-1])
            pictures.write(planned.folder / "samples" / f"{name}-steps{n}.png", image, scale)
            if trackers:
                trackers.images(state.k, f"samples-steps{n}", image)


def _measure(planned: Plan, state: State, watch: evaluation.Watch) -> dict[str, Any]:
    settings = planned.recipe.evaluate
    if not planned.recipe.metrics:
        return {"steps": {}, "seconds": 0.0}
    with _weights(state, settings.weights) as denoiser:
        return evaluation.evaluate(denoiser, planned.data, planned.recipe.metrics, planned.context,
                                   samples=settings.samples, steps=settings.steps, seed=settings.seed, watch=watch)


def _evaluated(planned: Plan, state: State | None, newest: Path | None, watch: Watch) -> dict[str, Any]:
    """The final figures: those on record if the protocol is the same, else measured now."""
    recipe, folder = planned.recipe, planned.folder
    known = record.read(_evaluation_file(planned))
    if known.get("k") == recipe.train.steps and set(map(str, recipe.evaluate.steps)) <= set(known.get("steps", {})):
        return known
    if state is None:
        state = _state(planned)
        state.restore(*checkpoint.load(newest, planned.context.device))  # type: ignore[arg-type]

    def tell(**what: Any) -> None:
        watch(record.event(folder, **what))

    def progress(done: int, total: int) -> None:
        watch({"event": "sampling", "done": done, "total": total})

    _show(planned, state, "final")
    found = _record_evaluation(planned, _measure(planned, state, progress), recipe.train.steps, tell)
    tell(event="end", outcome="done", k=recipe.train.steps)
    return found


def _evaluation_file(planned: Plan) -> Path:
    import hashlib

    digest = hashlib.sha256(_json(planned.recipe.protocol()).encode()).hexdigest()[:6]
    return planned.folder / "evaluations" / f"default-{digest}.json"


def _record_evaluation(planned: Plan, found: dict[str, Any], k: int, tell: Callable[..., None]) -> dict[str, Any]:
    if not planned.recipe.metrics:
        return found
    path = _evaluation_file(planned)
    whole = {"protocol": {"name": path.stem, **planned.recipe.protocol(), "data": planned.data.identity},
             "k": k, **found}
    record.write(path, _json(whole))
    tell(event="evaluated", k=k, protocol=path.stem, figures=record.figures_of(whole), seconds=found["seconds"])
    plugins.installed().manager.hook.genkit_evaluated(
        folder=planned.folder, figures=record.figures_of(whole), key=keys.Key(planned.recipe.train.seed, k))
    return whole


# ---- signals and trackers ------------------------------------------------------------------------


@attrs.define
class _Signals:
    signal: int | None = None


@contextmanager
def _signals() -> Iterator[_Signals]:
    """Note SIGTERM, SIGINT and SIGUSR1 for the loop to act on; a second one leaves at once."""
    stop = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, frame: Any) -> None:
        if stop.signal is not None:
            os._exit(130)
        stop.signal = number

    caught = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.signal(number, note) for number in caught}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@attrs.define
class _Trackers:
    """The trackers of a run; one that fails is dropped, with a notice."""

    sessions: dict[str, Any]
    tell: Callable[..., None]

    def scalars(self, k: int, figures: dict[str, float]) -> None:
        self._each(lambda session: session.scalars(k, figures))

    def images(self, k: int, name: str, image: Tensor) -> None:
        self._each(lambda session: session.images(k, name, image))

    def close(self) -> None:
        self._each(lambda session: session.close())

    def _each(self, act: Callable[[Any], Any]) -> None:
        for name, session in list(self.sessions.items()):
            try:
                act(session)
            except Exception as error:  # whatever a tracker does wrong, the run goes on
                del self.sessions[name]
                self.tell(event="notice", text=f"tracker {name} is dropped: {type(error).__name__}: {error}")


@contextmanager
def _trackers(planned: Plan, tell: Callable[..., None]) -> Iterator[_Trackers]:
    trackers = _Trackers({}, tell)
    for name, component in planned.recipe.trackers.items():
        try:
            trackers.sessions[name] = component.open(planned.folder, planned.recipe.tree())
        except Exception as error:  # as above
            tell(event="notice", text=f"tracker {name} is dropped: {type(error).__name__}: {error}")
    try:
        yield trackers
    finally:
        trackers.close()


# ---- runs that are there -------------------------------------------------------------------------


def reopen(run: str | Path) -> tuple[Path, Recipe]:
    """A run's folder and its resolved recipe.

    Raises:
        GenkitError: There is no such run, or its plugins are gone.
    """
    folder = record.find(run)
    tree = record.recipe_file(folder)
    shown = str(folder / "recipe.toml")
    places = Places({(name,): Place(shown, None, folder) for name in tree})
    return folder, resolved(Layers(hoist(tree, shown), places, set()))


def load(run: str | Path, weights: str = "ema", device: str | None = None) -> Denoiser:
    """The denoiser of a run at its newest checkpoint, in eval mode; no data are needed.

    Args:
        weights: "ema" or "raw".

    Raises:
        GenkitError: There is no such run, or it has no usable checkpoint.
    """
    folder, recipe = reopen(run)
    if weights not in ("ema", "raw"):
        raise RecipeError("weights", f"{weights!r} is neither ema nor raw")
    lock = record.read(folder / "lock.json")
    device = _device(device)
    context = Context(device=device, seed=recipe.train.seed, levels=recipe.levels, cache_dir=cache_dir(),
                      spec=Spec(**lock["spec"]), data=lock["data"], total_steps=recipe.train.steps,
                      load=functools.partial(load_source, device=device))
    newest, _ = checkpoint.latest(folder / "checkpoints")
    if newest is None:
        raise CheckpointError(folder, "has no usable checkpoint yet", "run its recipe again to go on")
    tensors, _ = checkpoint.load(newest, "cpu")
    with torch.random.fork_rng(devices=[]):
        program: Program = registry.build(recipe.objective, context)
    program.load_state_dict({n.removeprefix("program/"): t for n, t in tensors.items() if n.startswith("program/")})
    if weights == "ema":
        ema = {n.removeprefix("ema/"): t for n, t in tensors.items() if n.startswith("ema/")}
        program.student.network.load_state_dict(ema, strict=False)
    return program.student.to(device).eval()


def load_source(source: Source, device: str | None = None) -> Denoiser:
    """The frozen denoiser that a recipe names: RUN, or recipe:NAME for the finished run of a recipe.

    Raises:
        DataError: There is no such run; says how to make it.
    """
    return load(_run_of(source), source.weights, device).requires_grad_(False)


def _run_of(source: Source) -> Path:
    name = source.origin.removeprefix("recipe:")
    if name == source.origin:
        return record.find(name)
    done = [s for s in record.runs() if s.name == name and s.k >= s.steps > 0]
    if not done:
        raise DataError(source.origin, "has no finished run here", f"make it: genkit run {name}")
    return done[0].folder


def _content(source: Source) -> str:
    """Identity of starting weights."""
    path = Path(source.origin)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise DataError(path, "no such weights file", "check init.from")
        return checkpoint._sha256(path)
    return f"{record.read(_run_of(source) / 'lock.json')['id']}/{source.weights}"


def _start_from(program: Program, source: Source) -> None:
    path = Path(source.origin)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        weights = load_file(path)
    else:
        weights = load(_run_of(source), source.weights, "cpu").network.state_dict()
    try:
        program.student.network.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(source.origin, f"does not fit the network: {str(error).splitlines()[1].strip()}",
                        "use the network that the weights were made with") from error


def evaluate(
    run: str | Path,
    *,
    device: str | None = None,
    watch: Watch = lambda event: None,
    **settings: Any,
) -> dict[str, Any]:
    """Evaluate a run, as its recipe says or with other `samples`, `steps`, `seed` or `weights`; it is recorded.

    Returns:
        {"protocol": …, "steps": {"1": {"figures": {"fd.fd": …}, "nfe": 1}}}

    Raises:
        GenkitError: The run has no checkpoint, or its recipe names no metrics.
    """
    folder, recipe = reopen(run)
    evaluation.require_metrics(recipe.metrics)
    recipe = attrs.evolve(recipe, evaluate=Evaluate(**{**attrs.asdict(recipe.evaluate), **settings}))
    planned = plan(recipe, folder, device)
    newest, _ = checkpoint.latest(folder / "checkpoints")
    if newest is None:
        raise CheckpointError(folder, "has no usable checkpoint yet", "run its recipe again to go on")
    with record.held(folder), _threads(planned):
        state = _state(planned)
        state.restore(*checkpoint.load(newest, planned.context.device))

        def progress(done: int, total: int) -> None:
            watch({"event": "sampling", "done": done, "total": total})

        found = _measure(planned, state, progress)
        whole = _record_evaluation(planned, found, state.k, lambda **what: watch(record.event(folder, **what)))
    report.write(folder)
    return whole


__all__ = ["GenkitError", "Plan", "RunResult", "evaluate", "load", "plan", "plain", "reopen", "run"]
