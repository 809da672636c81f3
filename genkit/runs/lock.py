"""What a run is made with, `lock.json`, as lock files of packages have it; and whether a folder may hold it.

That one process alone works in a folder is `store.held`.
"""

from __future__ import annotations

import platform
import subprocess
import time
from typing import Any

import attrs
import torch

import genkit
from genkit.data import records
from genkit.errors import CheckpointError, GenkitError
from genkit.evaluation import measuring
from genkit.kernel import discovery
from genkit.kernel.identity import differences
from genkit.kernel.loading import load_recipe
from genkit.kinds import TrackedRun
from genkit.runs import store
from genkit.runs.planning import Plan
from genkit.training import processes
from genkit.training.state import State

# What a change does to the rest of a run, if it is more than other rounding.
MASKS = "equal up to rounding, but for dropout, whose masks are others"
SAME = {"world_size": MASKS, "micro_batch": MASKS, "device": "equal up to rounding on its like, else with other draws"}


def require_ours(planned: Plan) -> None:
    """Leave a folder alone that no run has made.

    Raises:
        CheckpointError: It has files and no lock, and is not what a run leaves that was stopped at once.
    """
    folder = planned.folder
    if (folder / "lock.json").exists() or not folder.exists():
        return
    there = {p.name for p in folder.iterdir() if not p.name.startswith(".")}
    begun = "recipe.toml" in there and (folder / "recipe.toml").read_text("utf-8") == planned.recipe.toml()
    if there - ({"recipe.toml", "code"} if begun else set()):
        raise CheckpointError(folder, "is not empty and holds no run", "choose another --out")


def claim(planned: Plan) -> list[str]:
    """What has changed since the run was begun, if it was.

    Raises:
        CheckpointError: It holds another run.
    """
    folder, lock = planned.folder, records.read(planned.folder / "lock.json")
    if lock and lock.get("id") != planned.id:
        what = f"holds another run, {lock.get('id')}; this one is {planned.id}, which differs in {_difference(planned)}"
        raise CheckpointError(folder, what, "choose another --out, or --fresh to rename it")
    if not lock:
        return []
    then, now = lock.get("plugins", {}), _versions()
    return [
        f"made with {name} {then[name]}, going on with {now.get(name, 'none')}"
        for name in then
        if then[name] != now.get(name)
    ]


def _difference(planned: Plan) -> str:
    """By what a recipe makes another run than the one that its folder holds."""
    try:
        found = differences(load_recipe(planned.folder / "recipe.toml"), planned.recipe)
    except GenkitError as error:
        return f"what cannot be told ({str(error).splitlines()[0]})"
    return ", ".join(found) or "the data, or the code of its components"


def write(planned: Plan, state: State, threads: int, trial: list[str]) -> list[str]:
    """Write what the run is made with; what differs from when it began."""
    path = planned.folder / "lock.json"
    before, train = records.read(path), planned.recipe.train
    now = {
        "device": planned.context.device,
        "threads": threads,
        "world_size": processes.world(),
        "micro_batch": state.micro_batch or train.micro_batch,
        "kernels": train.kernels,
        "torch": torch.__version__,
    }
    changed = [
        f"begun with {name} {before[name]}, going on with {value}: {SAME.get(name, 'equal, but not bit for bit')}"
        for name, value in now.items()
        if before and before.get(name, value) != value
    ]
    lock = {
        "name": planned.recipe.name,
        "id": planned.id,
        "steps": train.steps,
        **now,
        "genkit": genkit.__version__,
        "python": platform.python_version(),
        "plugins": _versions(),
        "git": _git(),
        **_measured(planned),
        "data": planned.data.identity,
        "samples": len(planned.data),
        "parameters": sum(p.numel() for p in state.program.student.parameters()),
        "trial": before.get("trial", trial) and trial,
        "created": before.get("created", time.time()),
        "notices": list(planned.recipe.notices),
    }
    store.keep_recipe(planned.folder / "recipe.toml", planned.recipe)
    records.write(path, lock)
    return changed


def keep(planned: Plan, trial: list[str]) -> None:
    """A finished run takes the name and the evaluation of who runs it; a study takes it as it is.

    A trial that somebody runs by its recipe is theirs from then on. Older runs learn how often each class comes.
    """
    lock = records.read(planned.folder / "lock.json")
    kept = {**lock, **_measured(planned)}
    if trial and not lock.get("trial"):
        kept |= {"evaluation": lock.get("evaluation", "")}
    else:
        store.keep_recipe(planned.folder / "recipe.toml", planned.recipe)
        kept |= {"name": planned.recipe.name, "trial": trial}
    if kept != lock:
        records.write(planned.folder / "lock.json", kept)


def tracked(planned: Plan, k: int) -> TrackedRun:
    """A run after k steps, as trackers know it: by its id and the moment when its folder was begun."""
    lock = records.read(planned.folder / "lock.json")
    study, arm = lock.get("trial") or ("", "")
    key = f"{planned.id}-{int(lock['created'] * 1000):x}"
    return TrackedRun(folder=planned.folder, key=key, recipe=planned.recipe.tree(), k=k, study=study, arm=arm)


def _measured(planned: Plan) -> dict[str, Any]:
    """What samples are, and the name of the evaluation that the recipe asks for."""
    spec, recipe = planned.context.spec, planned.recipe
    return {"spec": attrs.asdict(spec), "evaluation": measuring.name_of(recipe, spec.counts) if recipe.metrics else ""}


def made_with(planned: Plan) -> dict[str, Any]:
    """What an evaluation tells of it."""
    tree = planned.recipe.tree()
    return {
        "genkit": genkit.__version__,
        "torch": torch.__version__,
        "plugins": _versions(),
        "device": planned.context.device,
        "world_size": processes.world(),
        **{name: tree[name] for name in ("ema", "averages") if name in tree},
    }


def _versions() -> dict[str, str]:
    return {p.distribution: p.version for p in discovery.installed().all if p.state == "loaded"}


def _git() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()
