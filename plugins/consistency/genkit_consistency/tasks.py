"""What `genkit edit` does: pictures in, answers out."""

from __future__ import annotations

import math
from pathlib import Path

import attrs
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from genkit.denoiser import Denoiser
from genkit.errors import DataError, RecipeError
from genkit.evaluation import sampling
from genkit.kinds import Spec
from genkit.levels import Levels
from genkit_consistency import editing

TASKS = ("inpaint", "colorize", "upscale", "interpolate")
MODES = {1: ("L",), 3: ("RGB",)}


@attrs.frozen(kw_only=True)
class Given:
    """What an edit is told; see `genkit edit --help`."""

    images: tuple[Path, ...]
    mask: Path | None
    patch: int
    level: float | None
    steps: int
    count: int
    seed: int
    label: int | None


def fit(denoiser: Denoiser, run: str) -> Denoiser:
    """A consistency model of pictures, or one line.

    Raises:
        RecipeError: It is something else.
    """
    predicts = getattr(denoiser.objective, "predicts", None)
    if predicts != "consistency":
        raise RecipeError(run, f"is no consistency model: it predicts {predicts!r}", "name another run")
    if denoiser.spec.dtype != "uint8" or denoiser.spec.channels not in MODES:
        raise RecipeError(run, "is no model of grey or colour pictures", "name another run")
    return denoiser


def perform(task: str, denoiser: Denoiser, levels: Levels, given: Given) -> tuple[Tensor, Tensor]:
    """Pictures to look at first (0 or more), and the answers; in [-1, 1], (B, C, H, W).

    Raises:
        RecipeError: The task, the number of pictures or the level is wrong.
        DataError: A picture or the mask does not fit.
    """
    if task not in TASKS:
        raise RecipeError("--task", f"{task!r} is no task", f"take one of {', '.join(TASKS)}")
    wanted = (0, 2) if task == "interpolate" else (1,)
    if len(given.images) not in wanted:
        hint = f"{task} takes {' or '.join(map(str, wanted))}"
        raise RecipeError("--image", f"{len(given.images)} pictures are given", hint)
    cond = sampling.conditioning(denoiser, 0, given.count, given.seed, given.label)
    if task == "interpolate":
        return _between(denoiser, levels, given, cond)
    edit, y = measured(task, denoiser.spec, given)
    y = y.to(next(denoiser.parameters()).device)
    descent, draw = editing.descending(levels, given.steps), sampling.latents(denoiser, 0, given.count, given.seed)
    every = y.expand(given.count, -1, -1, -1)
    answers = editing.fill_in(denoiser, every, edit, draw, cond, descent, levels.sigma_min)
    return torch.cat([y, edit.known(y)]), answers


def measured(task: str, spec: Spec, given: Given) -> tuple[editing.Edit, Tensor]:
    """The measurement that a task takes as known, and the picture (1, C, H, W)."""
    (path,) = given.images
    size = (spec.width, spec.height)
    if task == "inpaint":
        return editing.inpainting(_mask(given.mask, spec)), _read(path, spec, [size], MODES[spec.channels])
    if task == "colorize":
        if spec.channels != 3:
            raise DataError("--task colorize", "the model's pictures have no colours", "name a run on colour pictures")
        return editing.colorization(), _read(path, spec, [size], ("RGB", "L"))
    if spec.width % given.patch or spec.height % given.patch:
        raise DataError("--patch", f"{given.patch} does not divide {size[0]}x{size[1]} pixels", "take a divisor")
    small = (spec.width // given.patch, spec.height // given.patch)
    y = _read(path, spec, [size, small], MODES[spec.channels])
    if y.shape[2] != spec.height:
        y = y.repeat_interleave(given.patch, 2).repeat_interleave(given.patch, 3)
    return editing.superresolution(given.patch), y


def _between(denoiser: Denoiser, levels: Levels, given: Given, cond: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    spec, device = denoiser.spec, next(denoiser.parameters()).device
    t = given.level if given.level is not None else 1.0 if given.images else levels.sigma_max
    if not levels.sigma_min < t <= levels.sigma_max:
        raise RecipeError("--level", f"{t} is not within [levels]", f"{levels.sigma_min} … {levels.sigma_max}")
    modes = MODES[spec.channels]
    pictures = [_read(path, spec, [(spec.width, spec.height)], modes) for path in given.images]
    ends = torch.cat(pictures).to(device) if pictures else torch.zeros(2, *spec.shape, device=device)
    a, b = ends + t * sampling.latents(denoiser, 0, 2, given.seed)(0)
    share = torch.linspace(0, 1, given.count, device=device)
    return ends[: len(pictures)], editing.interpolate(denoiser, a, b, share, t, cond)


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError as error:
        raise DataError(path, "no such file", "check the path") from error
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(path, "cannot be read as a picture", "give a PNG") from error


def _read(path: Path, spec: Spec, sizes: list[tuple[int, int]], modes: tuple[str, ...]) -> Tensor:
    """A picture as (1, C, H, W) in [-1, 1]; a grey one for a colour model has three equal channels."""
    image = _opened(path)
    if image.mode not in modes:
        raise DataError(path, f"is of mode {image.mode}", f"convert it to {' or '.join(modes)}")
    if image.size not in sizes:
        wanted = " or ".join(f"{w}x{h}" for w, h in sizes)
        raise DataError(path, f"has {image.size[0]}x{image.size[1]} pixels", f"resize it to {wanted}")
    array = torch.from_numpy(np.array(image)).float().reshape(image.height, image.width, -1)
    return (array.permute(2, 0, 1) / 127.5 - 1).expand(spec.channels, -1, -1)[None].contiguous()


def _mask(path: Path | None, spec: Spec) -> Tensor:
    """Where to fill in, bool (1, 1, H, W): where the picture is white, else in the middle quarter of the area."""
    if path is None:
        mask = torch.zeros(1, 1, spec.height, spec.width, dtype=torch.bool)
        down, across = math.ceil(spec.height / 4), math.ceil(spec.width / 4)
        mask[..., down : spec.height - down, across : spec.width - across] = True
        return mask
    image = _opened(path)
    if image.mode not in ("1", "L"):
        raise DataError(path, f"is of mode {image.mode}", "give a mask in black and white, of mode L or 1")
    if image.size != (spec.width, spec.height):
        raise DataError(path, f"has {image.size[0]}x{image.size[1]} pixels", f"resize it to {spec.width}x{spec.height}")
    return torch.from_numpy(np.array(image.convert("L")) > 127)[None, None]
