"""The forms, and what holds for each: it is written aside, read back, compared, and only then put in its place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from genkit.data import atomic
from genkit.denoiser import Denoiser
from genkit.errors import DataError, RecipeError
from genkit.evaluation import sampling
from genkit.kinds import closest, names
from genkit_export import diffusers_folder, hub, onnx_graph, program, tensors, web
from genkit_export.graph import Steps
from genkit_export.model import Model

COUNT = 3  # samples that are compared
ROUNDING = 1e-4  # of samples in [-1, 1]: float32 has 6e-8, and other kernels add in another order


class Form(NamedTuple):
    """A form that models leave in.

    Attributes:
        ending: Of its file; none if it is a folder.
        write: Makes it.
        read: Gives a denoiser that can be sampled.
        off: By how much samples that are read back may differ from the model's own.
        of_steps: Whether it is of one number of steps alone.
    """

    ending: str
    write: Callable[[Model, Path, Steps], None]
    read: Callable[[Path], Denoiser]
    off: float
    of_steps: bool


FORMS = {
    "hub": Form("", hub.write, lambda folder: tensors.read(folder / hub.WEIGHTS), 0.0, False),
    "diffusers": Form("", diffusers_folder.write, diffusers_folder.read, 0.0, False),
    "safetensors": Form(".safetensors", lambda made, target, _: tensors.write(made, target), tensors.read, 0.0, False),
    "torch-export": Form(".pt2", program.write, program.read, ROUNDING, True),
    "web": Form(".html", web.write, web.read, ROUNDING, True),
    "onnx": Form(".onnx", onnx_graph.write, onnx_graph.read, ROUNDING, True),
}


def export(made: Model, to: str, out: Path | None = None, steps: Steps = 1) -> tuple[Path, float]:
    """Write a model in a form; where it is, and by how much samples that are read back differ at most.

    Raises:
        RecipeError: There is no such form, or the place has another ending.
        DataError: The place is taken by a folder, or what is read back draws other samples: nothing is left then.
        PluginError: A package that the form needs is not installed.
    """
    if to not in FORMS:
        raise RecipeError("--to", f"there is no form {to!r}", closest(to, FORMS, f"there are {names(FORMS)}"))
    form, target = FORMS[to], out or _place(made, to, steps)
    if form.ending and target.suffix != form.ending:
        raise RecipeError(f"--out {target}", f"{to} is a {form.ending} file", "give it that ending")
    if target.is_dir() or (target.exists() and not form.ending):
        raise DataError(target, "is there already", "remove it, or choose another --out")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as aside:
            partial = Path(aside) / target.name
            form.write(made, partial, steps)
            off = difference(made.denoiser, form.read(partial), steps)
            if not off <= form.off:  # or NaN
                what = f"reads back with samples that differ by {off:.2g}, more than {form.off:g}"
                raise DataError(target, what, "nothing was written; another form may do")
            shutil.move(partial, target)
    except OSError as error:
        raise atomic.unwritable(target, error) from error
    return target, off


def _place(made: Model, to: str, steps: Steps) -> Path:
    form = FORMS[to]
    levels = steps if isinstance(steps, int) else ",".join(map(str, steps))
    name = f"{made.told['name']}-steps{levels}" if form.of_steps else made.told["name"]
    return made.folder / "exports" / f"{name}{form.ending or f'-{to}'}"


def difference(own: Denoiser, other: Denoiser, steps: Steps) -> float:
    """The largest difference between a few samples of two models from the same noise."""
    label = sampling.EVENLY if own.spec.classes else None
    a, b = (sampling.sample(denoiser, COUNT, steps, seed=0, label=label) for denoiser in (own, other))
    return float((a - b).abs().max())
