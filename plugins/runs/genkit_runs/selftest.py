"""A training of a few steps that is saved, resumed and measured, in a process of its own: what `genkit doctor` tries.

`python -m genkit_runs.selftest FOLDER` is that process; it prints a line once torch is there, and one JSON object.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import genkit
from genkit.errors import GenkitError, PluginError
from genkit_runs.findings import Finding, note, ok, problem

RECIPE, TORCH = "ict_ring", "import torch"
FEW = ["train.steps=6", "train.save_every_steps=3", "train.log_every_steps=2", "train.batch_size=16"]
FEW += ["evaluate.samples=200", "evaluate.steps=[1]"]
PATIENCE_SEC = 120
OTHERS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # it is alone


def selftest() -> Iterator[Finding]:
    """Six steps, saved in between and resumed there, in a temporary folder."""
    about = "self-test"
    with tempfile.TemporaryDirectory(prefix="genkit-doctor-", ignore_cleanup_errors=True) as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "genkit_runs.selftest", folder],
                env=_alone(folder), cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SEC, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            yield problem(about, f"{RECIPE} is not done after {PATIENCE_SEC} s", "see what else keeps the machine busy")
            return
    if TORCH not in done.stdout.splitlines():
        yield problem(TORCH, f"fails: {_last_words(done)}", "reinstall torch; what needs it was not looked at")
    elif done.returncode != 0:
        yield problem(about, _last_words(done), f"genkit run {RECIPE} train.steps=6 --debug tells more")
    else:
        yield _judged(json.loads(done.stdout.splitlines()[-1]))


def _alone(folder: str) -> dict[str, str]:
    """The environment of a process that finds the same packages, and neither other processes nor our runs."""
    own = {name: value for name, value in os.environ.items() if name not in OTHERS}
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return own | {"PYTHONPATH": path, "GENKIT_RUNS": folder, "GENKIT_CACHE": str(Path(folder, "cache"))}


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"the process was ended by {signal.Signals(-done.returncode).name}"
    said = done.stderr.strip().splitlines() or [f"it left with {done.returncode}"]
    return said[-1][:300]


def _judged(told: dict[str, Any]) -> Finding:
    about, where = "self-test", f"on {told.get('device')}"
    if "missing" in told:
        return note(about, f"skipped: {told['missing']}", f"install what {RECIPE} is made of")
    if "error" in told:
        return problem(about, f"{RECIPE}: {told['error']}", f"genkit run {RECIPE} train.steps=6 --debug tells more")
    if odd := [name for name, value in told["figures"].items() if not math.isfinite(value)]:
        return problem(about, f"{odd[0]} of {RECIPE} is no finite number {where}", "try --device cpu; reinstall torch")
    if not told["same"]:
        return problem(about, f"{RECIPE} resumed differs from {RECIPE} in one go {where}", "try --device cpu")
    return ok(about, f"{RECIPE}: 6 steps, saved, resumed with the same bits, in {told['seconds']:.1f} s {where}")


# ---- in the other process ------------------------------------------------------------------------


def trained(folder: Path) -> dict[str, Any]:
    """What came of it, for `_judged`."""
    from genkit.data import records
    from genkit.runs import store

    try:
        recipe = genkit.load_recipe(RECIPE, FEW)
    except GenkitError as error:
        what = "missing" if error.exit_code == PluginError.exit_code else "error"
        return {what: str(error).splitlines()[0]}
    began = time.monotonic()
    try:
        whole = genkit.run(recipe, folder / "run")
        last = folder / "run" / "checkpoints" / "step-0000006"
        first = (last / "state.safetensors").read_bytes()
        shutil.rmtree(last)
        again = genkit.run(recipe, folder / "run")
    except GenkitError as error:
        return {"error": str(error)}
    events = store.events(folder / "run")
    losses = {f"loss at step {e['k']}": e["figures"]["loss"] for e in events if e.get("event") == "step"}
    resumed = any(e.get("event") == "resume" and e.get("k") == 3 for e in events)
    return {
        "figures": {**losses, **whole.figures},
        "same": resumed and whole.figures == again.figures and first == (last / "state.safetensors").read_bytes(),
        "device": records.read(folder / "run" / "lock.json").get("device"),
        "seconds": time.monotonic() - began,
    }


if __name__ == "__main__":
    importlib.import_module("torch")
    print(TORCH, flush=True)
    print(json.dumps(trained(Path(sys.argv[1]))))
