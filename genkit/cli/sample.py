"""`genkit sample`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genkit.cli.run import Device

if TYPE_CHECKING:
    from torch import Tensor


def sample(
    run: Annotated[str, typer.Argument(help="A run: folder, name, beginning of its id, or latest.")],
    steps: Annotated[str, typer.Option(help="Sampling steps, or levels after the first: 2 or 0.8 or 1.5,0.5")] = "1",
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Sample i depends on (seed, i) alone.")] = 0,
    label: Annotated[int | None, typer.Option(help="One class for all.")] = None,
    weights: Annotated[str, typer.Option(help="ema or raw.")] = "ema",
    checkpoint: Annotated[str, typer.Option(help="latest, best, or a step.")] = "latest",
    out: Annotated[Path | None, typer.Option(help="grid.png, samples.h5, or a folder of PNGs.")] = None,
    device: Device = None,
) -> None:
    """Draw samples of a run."""
    from genkit import models, sampling

    folder = models.reopen(run)[0]
    levels = _steps(steps)
    denoiser = models.load(folder, weights, device, checkpoint)
    at = "" if checkpoint == "latest" else f"-{checkpoint}"
    out = writable(out or folder / "samples" / f"sample-steps{steps}-seed{seed}-{weights}{at}.png")
    batch = sampling.samples(denoiser, count, levels, seed, label)
    write(
        out,
        batch.x,
        {
            "run": folder.name,
            "steps": steps,
            "seed": seed,
            "weights": weights,
            "label": "all" if label is None else label,
        },
        batch.cond.get("label"),
    )
    print(out)


def _steps(text: str) -> int | list[float]:
    from genkit.errors import RecipeError

    try:
        return int(text) if text.isdecimal() else [float(part) for part in text.split(",")]
    except ValueError as error:
        raise RecipeError("--steps", f"{text!r} is neither a number nor levels", "for instance 2, or 0.821") from error


def writable(out: Path) -> Path:
    """The place of samples, if its name says how they are kept.

    Raises:
        RecipeError: It does not.
    """
    from genkit.errors import RecipeError

    if out.suffix not in ("", ".png", ".h5", ".hdf5"):
        raise RecipeError(f"--out {out}", f"{out.suffix!r} is not written", "name a .png, a .h5, or a folder")
    return out


def write(out: Path, x0: Tensor, attributes: dict[str, object], labels: Tensor | None = None) -> None:
    """Samples as a picture, an HDF5 file (float32 and uint8, labels) or a folder of PNGs, by the name of `out`."""
    from genkit import pictures, store
    from genkit.data import quantise

    images = quantise(x0)
    if out.suffix == ".png":
        image = pictures.picture(images)
        pictures.write(out, image, max(1, 512 // max(image.shape[1:])))
    elif out.suffix in (".h5", ".hdf5"):
        arrays = {"train/images": images.cpu().numpy(), "train/x0": x0.cpu().numpy()}
        if labels is not None:
            arrays["train/labels"] = labels.cpu().numpy()
        store.write(out, arrays, attributes)
    else:
        for i, one in enumerate(images):
            pictures.write(out / f"{i:06d}.png", one)
