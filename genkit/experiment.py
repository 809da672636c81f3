"""The story of a run: recipe, data, program, training, figures, report; and runs that are done."""

from __future__ import annotations

import functools
import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import attrs
import torch

import genkit
from genkit import (
    checkpoint,
    distributed,
    evaluation,
    judge,
    keys,
    models,
    pictures,
    plugins,
    record,
    registry,
    report,
    sampling,
    watching,
)
from genkit.denoiser import Denoiser, Program
from genkit.errors import CheckpointError, Diverged, RecipeError, Stopped
from genkit.kinds import Context, Data, Setup
from genkit.recipe import Recipe, identity, load_recipe, other_evaluation
from genkit.state import State
from genkit.training import require_finite, train
from genkit.watching import Hooks, Signals, Trackers, signals

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
            models.start_from(program, self.recipe.init)
        return program.to(self.context.device)


# ---- preparing -----------------------------------------------------------------------------------


def plan(recipe: Recipe, out: Path | None = None, device: str | None = None) -> Plan:
    """Load the data and find out which run this is.

    Raises:
        GenkitError: Data, device or starting weights are not to be had.
    """
    device = distributed.start(models.pick_device(device))
    if recipe.train.batch_size % distributed.world():
        raise RecipeError(
            "train.batch_size",
            f"{recipe.train.batch_size} samples do not divide evenly over {distributed.world()} processes",
            "choose a multiple",
        )
    told = models.told(recipe, device)
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
        evaluation.require(recipe, context, data.identity)
    id = identity(recipe, data.identity, models.content)
    folder = Path(out) if out else record.root() / f"{recipe.name}-{id}"
    return Plan(recipe=recipe, data=data, context=context, id=id, folder=folder)


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
    _require_ours(planned)
    if fresh and planned.folder.exists():
        with record.held(planned.folder):
            planned.folder.rename(_unused(planned.folder.with_name(planned.folder.name + ".old")))
    with record.held(planned.folder):
        return _run(planned, trial, watch)


def _unused(folder: Path) -> Path:
    names = (folder.with_name(f"{folder.name}-{i}") for i in range(2, 10_000))
    return folder if not folder.exists() else next(name for name in names if not name.exists())


def _follow(planned: Plan) -> RunResult:
    """What a process other than the first does: what that one says, the same steps, nothing recorded."""
    state = _state(planned)
    if newest := distributed.gather(None)[0]:
        state.restore(*checkpoint.load(newest, planned.context.device))
    with signals() as stop:
        if state.k < planned.recipe.train.steps and distributed.gather(None)[0]:  # an evaluation is owed
            _measured(planned, state)
        for _ in train(state, planned.data, planned.recipe.train):
            if _due(planned.recipe, state.k, stop):
                require_finite(state)
                if distributed.any_of(stop.signal is not None):
                    distributed.gather(None)  # stay until the first process has saved
                    raise stop.stopped(planned.folder, state.k)
            if _evaluate_due(planned.recipe, state.k):
                _measured(planned, state)
    result = {} if distributed.gather(None)[0] else _measured(planned, state)
    return RunResult(folder=planned.folder, id=planned.id, figures=record.figures_of(result), evaluation=result)


def _run(planned: Plan, trial: bool, watch: Watch) -> RunResult:
    recipe, folder = planned.recipe, planned.folder
    notices = _claim(planned)
    checkpoint.sweep(folder / "checkpoints")
    newest, passed = checkpoint.latest(folder / "checkpoints")
    distributed.gather(newest)
    with _threads(planned) as threads:
        if newest and checkpoint.step_of(newest) >= recipe.train.steps:
            _keep(planned, trial)
            notices.append("this run is done; --again repeats it, --fresh begins anew")
            evaluated = _evaluated(planned, None, newest, watch)
        else:
            state = _state(planned)
            notices += _lock(planned, state, threads, trial)
            evaluated = _live(planned, state, newest, [*passed, *notices], watch)
    report.write(folder)
    return RunResult(
        folder=folder,
        id=planned.id,
        figures=record.figures_of(evaluated),
        evaluation=evaluated,
        notices=(*recipe.notices, *notices),
    )


def _require_ours(planned: Plan) -> None:
    """Leave a folder alone that no run has made.

    Raises:
        CheckpointError: It has files and no lock, and is not what a run leaves that was stopped at once.
    """
    folder = planned.folder
    if (folder / "lock.json").exists() or not folder.exists():
        return
    there = {p.name for p in folder.iterdir() if not p.name.startswith(".")}
    begun = "recipe.toml" in there and (folder / "recipe.toml").read_text() == planned.recipe.toml()
    if there - ({"recipe.toml"} if begun else set()):
        raise CheckpointError(folder, "is not empty and holds no run", "choose another --out")


def _claim(planned: Plan) -> list[str]:
    """What has changed since the run was begun, if it was.

    Raises:
        CheckpointError: It holds another run.
    """
    folder, lock = planned.folder, record.read(planned.folder / "lock.json")
    if lock and lock.get("id") != planned.id:
        raise CheckpointError(
            folder,
            f"holds another run, {lock.get('id')}; this one is {planned.id}",
            "choose another --out, or --fresh to rename it",
        )
    if not lock:
        return []
    then, now = lock.get("plugins", {}), _versions()
    return [
        f"made with {name} {then[name]}, going on with {now.get(name, 'none')}"
        for name in then
        if then[name] != now.get(name)
    ]


def _versions() -> dict[str, str]:
    return {p.distribution: p.version for p in plugins.installed().all if p.state == "loaded"}


def _lock(planned: Plan, state: State, threads: int, trial: bool) -> list[str]:
    """Write what the run is made with; what differs from when it began."""
    path = planned.folder / "lock.json"
    before = record.read(path)
    now = {
        "device": planned.context.device,
        "threads": threads,
        "world_size": distributed.world(),
        "micro_batch": planned.recipe.train.micro_batch,
        "torch": torch.__version__,
    }
    changed = [
        f"begun with {name} {before[name]}, going on with {value}: equal, but not bit for bit"
        for name, value in now.items()
        if before and before.get(name) != value
    ]
    lock = {
        "name": planned.recipe.name,
        "id": planned.id,
        "steps": planned.recipe.train.steps,
        **now,
        "genkit": genkit.__version__,
        "python": platform.python_version(),
        "plugins": _versions(),
        "git": _git(),
        "spec": attrs.asdict(planned.data.spec),
        "data": planned.data.identity,
        "samples": len(planned.data),
        "parameters": sum(p.numel() for p in state.program.student.parameters()),
        "trial": before.get("trial", trial) and trial,
        "created": before.get("created", time.time()),
        "notices": list(planned.recipe.notices),
    }
    record.write(planned.folder / "recipe.toml", planned.recipe.toml())
    record.write(path, _json(lock))
    return changed


def _keep(planned: Plan, trial: bool) -> None:
    """A finished run takes the name and the evaluation of who runs it; a study takes it as it is.

    A trial that somebody runs by its recipe is theirs from then on.
    """
    lock = record.read(planned.folder / "lock.json")
    if trial and not lock.get("trial"):
        return
    record.write(planned.folder / "recipe.toml", planned.recipe.toml())
    if not trial and lock.get("trial"):
        record.write(planned.folder / "lock.json", _json({**lock, "trial": False}))


def _json(value: Any) -> str:
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


def _threads(planned: Plan) -> AbstractContextManager[int]:
    """A recorded run keeps its number of threads."""
    recorded = record.read(planned.folder / "lock.json").get("threads")
    return watching.threads(planned.recipe.train.threads or recorded, planned.data.spec.size <= 256)


def _live(planned: Plan, state: State, newest: Path | None, notices: list[str], watch: Watch) -> dict[str, Any]:
    """From the newest checkpoint to the last step and its figures, with the hooks at both ends."""
    recipe, folder, outcome = planned.recipe, planned.folder, "failed"

    def tell(**what: Any) -> None:
        watch(record.event(folder, **what))

    hooks = Hooks(tell)
    if newest:
        state.restore(*checkpoint.load(newest, planned.context.device))
    hooks("genkit_run_start", folder=folder, recipe=recipe, key=keys.Key(recipe.train.seed, state.k))
    try:
        _train(planned, state, "resume" if newest else "start", notices, tell)
        evaluated = _evaluated(planned, state, newest, watch)
        outcome = "done"
        return evaluated
    except (Diverged, Stopped) as error:
        outcome = "diverged" if isinstance(error, Diverged) else "preempted"
        tell(event="end", outcome=outcome, k=state.k, text=str(error))
        raise
    finally:
        hooks("genkit_run_end", folder=folder, outcome=outcome, key=keys.Key(recipe.train.seed, state.k))


def _train(planned: Plan, state: State, begin: str, notices: list[str], tell: Callable[..., None]) -> None:
    recipe = planned.recipe
    tell(
        event=begin,
        k=state.k,
        steps=recipe.train.steps,
        batch_size=recipe.train.batch_size,
        sampling_calls=_sampling_calls(planned, state.k),
    )
    for text in notices:
        tell(event="notice", text=text)
    with signals() as stop, watching.trackers(recipe.trackers, planned.folder, recipe.tree(), tell) as trackers:
        if distributed.gather(_owed(planned, state.k))[0]:
            _judge(planned, state, tell)
        _steps(planned, state, stop, trackers, tell)


def _owed(planned: Plan, k: int) -> bool:
    """Whether a run was stopped between the checkpoint of step k and its evaluation."""
    told = (e.get("k") for e in record.events(planned.folder) if e.get("event") == "evaluated")
    return _evaluate_due(planned.recipe, k) and k not in told


def _steps(planned: Plan, state: State, stop: Signals, trackers: Trackers, tell: Callable[..., None]) -> None:
    recipe, settings = planned.recipe, planned.recipe.train
    hooks = Hooks(tell)
    watched = hooks.watched("genkit_step_end")
    begun, since, first = time.monotonic(), time.monotonic(), state.k
    for figures in train(state, planned.data, settings):
        k = state.k
        if watched:
            hooks("genkit_step_end", state=state, figures=figures, key=keys.Key(settings.seed, k - 1))
        if not _due(recipe, k, stop):
            continue
        require_finite(state)
        if k % settings.log_every_steps == 0 or k == settings.steps:
            now = time.monotonic()
            plain_figures = {name: float(value) for name, value in figures.items()}
            tell(
                event="step",
                k=k,
                figures=plain_figures,
                elapsed=round(now - begun, 3),
                images_per_sec=round((k - first) * settings.batch_size / (now - since), 1),
            )
            trackers.scalars(k, plain_figures)
            since, first = now, k
        halt = distributed.any_of(stop.signal is not None)
        if halt or k % settings.save_every_steps == 0 or k == settings.steps:
            _save(planned, state, tell)
        if halt:
            distributed.gather(None)
            raise stop.stopped(planned.folder, k)
        if settings.sample_every_steps and k % settings.sample_every_steps == 0:
            _show(planned, state, f"step-{k:07d}", trackers)
        if _evaluate_due(recipe, k):
            _judge(planned, state, tell)


def _sampling_calls(planned: Plan, k: int) -> int:
    """Network calls of all evaluations still to come, times samples: for the time left."""
    if not planned.recipe.metrics:
        return 0
    settings, total = planned.recipe.evaluate, planned.recipe.train.steps
    sampler = registry.build(planned.recipe.objective.sampler, planned.context)
    between = (total - 1) // settings.every_steps - k // settings.every_steps if settings.every_steps else 0
    calls: int = sum(sampler.nfe(n) for n in settings.steps)
    return (between + 1) * settings.count * len(settings.all_seeds) * calls


def _due(recipe: Recipe, k: int, stop: Signals) -> bool:
    """Whether something besides training happens after step k, on every process alike."""
    t = recipe.train
    every = [t.log_every_steps, t.save_every_steps, t.sample_every_steps, recipe.evaluate.every_steps]
    alone = distributed.world() == 1 and stop.signal is not None
    return alone or k == t.steps or any(n and k % n == 0 for n in every)


def _evaluate_due(recipe: Recipe, k: int) -> bool:
    every = recipe.evaluate.every_steps
    return bool(recipe.metrics) and every > 0 and k % every == 0 and 0 < k < recipe.train.steps


def _save(planned: Plan, state: State, tell: Callable[..., None]) -> None:
    path = checkpoint.save(
        planned.folder / "checkpoints", state.k, state.tensors(), state.numbers(), planned.recipe.train.keep_checkpoints
    )
    key = keys.Key(planned.recipe.train.seed, state.k)
    Hooks(tell)("genkit_checkpoint_saved", folder=planned.folder, checkpoint=path, key=key)
    tell(event="checkpoint", k=state.k)


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


def _show(planned: Plan, state: State, name: str, trackers: Trackers | None = None) -> None:
    """Grids of samples from fixed latents."""
    with _weights(state, planned.recipe.evaluate.weights) as denoiser:
        for n in planned.recipe.evaluate.steps:
            count = 4096 if planned.data.spec.shape[1:] == (1, 1) else SAMPLES_SHOWN
            x0 = sampling.sample(denoiser, count, n, planned.recipe.evaluate.seed)
            image = pictures.picture(evaluation.images(x0, planned.data, planned.recipe.evaluate.protocol))
            scale = max(1, 256 // image.shape[-1])
            pictures.write(planned.folder / "samples" / f"{name}-steps{n}.png", image, scale)
            if trackers:
                trackers.images(state.k, f"samples-steps{n}", image)


def _silent(done: int, total: int) -> None:
    pass


def _measured(planned: Plan, state: State, watch: judge.Watch = _silent) -> dict[str, Any]:
    with _weights(state, planned.recipe.evaluate.weights) as denoiser:
        return evaluation.of_recipe(denoiser, planned.data, planned.recipe, planned.context, watch)


def _judge(planned: Plan, state: State, tell: Callable[..., None], watch: judge.Watch = _silent) -> dict[str, Any]:
    """Evaluate the present weights, keep their checkpoint if they are the best so far, and record it."""
    found = _measured(planned, state, watch)
    wanted, folder = planned.recipe.evaluate.best, planned.folder / "checkpoints"
    if wanted and found["steps"] and evaluation.improves(found, wanted, checkpoint.best(folder)):
        if state.k not in map(checkpoint.step_of, checkpoint.present(folder)):
            _save(planned, state, tell)
        checkpoint.pin(folder, state.k, figure=wanted, value=record.figures_of(found)[wanted])
        tell(event="notice", text=f"step {state.k} is the best so far by {wanted}: its checkpoint stays")
    return _record_evaluation(planned, found, state.k, tell)


def _evaluated(planned: Plan, state: State | None, newest: Path | None, watch: Watch) -> dict[str, Any]:
    """The final pictures and figures: those on record if the protocol is the same, else made now."""
    recipe, folder = planned.recipe, planned.folder

    def tell(**what: Any) -> None:
        watch(record.event(folder, **what))

    def progress(done: int, total: int) -> None:
        watch({"event": "sampling", "done": done, "total": total})

    found = record.read(evaluation_file(planned.folder, planned.recipe)) if recipe.metrics else {"steps": {}}
    if not distributed.gather(_is_final(planned, found))[0]:
        if state is None:
            state = _state(planned)
            state.restore(*checkpoint.load(newest, planned.context.device))  # type: ignore[arg-type]
        _show(planned, state, "final")
        found = _judge(planned, state, tell, progress)
    if record.summary(folder).state != "done":
        tell(event="end", outcome="done", k=recipe.train.steps)
    return found


def _is_final(planned: Plan, found: dict[str, Any]) -> bool:
    """Whether an evaluation is that of the last step, at every number of sampling steps, with its pictures."""
    wanted = [str(n) for n in planned.recipe.evaluate.steps]
    pictures = all((planned.folder / "samples" / f"final-steps{n}.png").is_file() for n in wanted)
    measured = found.get("k") == planned.recipe.train.steps and set(wanted) <= set(found["steps"])
    return pictures and (measured or not planned.recipe.metrics)


def evaluation_file(folder: Path, recipe: Recipe, at: str = "") -> Path:
    """Where a run keeps its evaluation by the recipe's protocol; `at` says of which checkpoint, if not the newest."""
    name, digest = evaluation.name_of(recipe)
    return folder / "evaluations" / f"{name}-{digest}{at}.json"


def _record_evaluation(
    planned: Plan, found: dict[str, Any], k: int, tell: Callable[..., None], at: str = ""
) -> dict[str, Any]:
    if not planned.recipe.metrics:
        return found
    path = evaluation_file(planned.folder, planned.recipe, at)
    known = record.read(path)
    if known.get("k") == k:  # other numbers of steps of the same protocol stay
        found = {**found, "steps": {**known["steps"], **found["steps"]}}
    protocol = {"name": path.stem, **planned.recipe.protocol(), "data": planned.data.identity}
    rest = {name: value for name, value in found.items() if name not in evaluation.OF_PROTOCOL}
    protocol |= {name: found[name] for name in evaluation.OF_PROTOCOL}
    whole = {"protocol": protocol, "made_with": _made_with(planned), "k": k, **rest}
    record.write(path, _json(whole))
    tell(event="evaluated", k=k, protocol=path.stem, figures=record.figures_of(whole), seconds=found["seconds"])
    key = keys.Key(planned.recipe.train.seed, k)
    Hooks(tell)("genkit_evaluated", folder=planned.folder, figures=record.figures_of(whole), key=key)
    return whole


def _made_with(planned: Plan) -> dict[str, Any]:
    return {
        "genkit": genkit.__version__,
        "torch": torch.__version__,
        "plugins": _versions(),
        "device": planned.context.device,
        "world_size": distributed.world(),
        "ema": planned.recipe.tree()["ema"],
    }


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
    evaluation.require_metrics(recipe.metrics)
    recipe = attrs.evolve(recipe, evaluate=other_evaluation(recipe.evaluate, settings))
    planned = plan(recipe, folder, device)
    first = distributed.rank() == 0

    def progress(done: int, total: int) -> None:
        watch({"event": "sampling", "done": done, "total": total})

    with record.held(folder) if first else nullcontext(), _threads(planned):
        chosen, newest = (checkpoint.chosen(folder / "checkpoints", which) for which in (at, "latest"))
        k, suffix = checkpoint.step_of(chosen), "" if chosen == newest else f"@{checkpoint.step_of(chosen)}"
        denoiser = models.load(folder, recipe.evaluate.weights, planned.context.device, str(k))
        if recipe.train.compile:
            denoiser.compile()
        found = evaluation.of_recipe(denoiser, planned.data, recipe, planned.context, progress)
        if not first:
            return found
        found = _record_evaluation(planned, found, k, lambda **what: watch(record.event(folder, **what)), suffix)
    report.write(folder)
    return found
