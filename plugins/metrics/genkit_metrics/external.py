"""Samples that anybody drew, compared with a data set or statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genkit.data import cache_folder, hdf5, named
from genkit.errors import DataError
from genkit.evaluation import images, measuring, references, scoring
from genkit.evaluation.references import Statistics
from genkit.kernel import registry, resolving
from genkit.keys import Key
from genkit.kinds import Batch, Context, Data, Protocol_, Spec
from genkit.training import processes
from genkit_metrics import published


def against(name: str, device: str) -> Data | Statistics:
    """What samples are held against: statistics by their file, else a data set."""
    path = Path(name)
    if path.suffix == ".npz" or (path.is_file() and published.is_statistics(path)):
        return references.read(path)
    return named.data(name, device)


def samples(path: Path, protocol: Protocol_, device: str) -> Any:
    """Images of a folder, an HDF5 file (uint8, or float32 as `x0`) or an .npz of ADM's layout, as data.

    Raises:
        DataError: They cannot be read, are not finite, or leave [-1, 1].
    """
    if path.suffix == ".npz":
        return images.Images(_quantised(path, published.images(path), protocol))
    if path.suffix in (".h5", ".hdf5"):
        with hdf5.opened(path) as file:
            key = next((key for key in ("x0", "train/x0") if key in file), "")
            if key:
                x0 = torch.from_numpy(hdf5.read(hdf5.array(file, key)))
                return images.Images(_quantised(path, x0, protocol))
    return named.data(str(path), device)


def _quantised(path: Path, x: Tensor, protocol: Protocol_) -> Tensor:
    if x.dtype == torch.uint8:
        return x
    if bad := int((~torch.isfinite(x)).flatten(1).any(1).sum()):
        raise DataError(path, f"{bad} of {len(x)} samples are NaN or infinite", "draw them again")
    outside = float((x.abs() > 1).float().mean())  # models overshoot a little, and protocols clip that
    if outside > 0.5 or float(x.min()) >= 0:
        what = f"samples lie in {float(x.min()):.4g} … {float(x.max()):.4g}"
        raise DataError(path, what, "give float samples in [-1, 1], or uint8 ones")
    return protocol.quantise(x)


def evaluate(
    path: str | Path,
    held_against: str,
    metrics: Mapping[str, Any],
    *,
    protocol: Any,
    count: int | None = None,
    device: str | None = None,
    watch: scoring.Watch = lambda what, done, total: None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Figures of samples that are there.

    Args:
        path: A folder of pictures, an .h5 or an .npz.
        held_against: A data set, a recipe, or statistics.
        metrics: Components by name.
        count: How many samples; all if not given.

    Returns:
        As `genkit.evaluate`, with one row, "given", for the samples as they are.

    Raises:
        GenkitError: Samples or reference cannot be read, or do not belong together.
    """
    device = processes.pick_device(device)
    given, found = samples(Path(path), protocol, device), against(held_against, device)
    statistics, real = (found, None) if isinstance(found, Statistics) else (None, found)
    n = len(given) if count is None else count
    if n > len(given):
        raise DataError(path, f"has {len(given)} samples, {n} are wanted", "draw more, or lower --samples")
    wanted = real.spec.shape if real else statistics.shape if statistics else ()
    shape = _shape(path, given, wanted, held_against, say)
    spec = Spec(channels=shape[0], height=shape[1], width=shape[2])
    measuring.fits(protocol, spec)
    context = Context(
        device=device,
        cache_dir=cache_folder(),
        folder=Path.cwd(),
        spec=real.spec if real else spec,
        data=real.identity if real else "",
        dataset=named.component_of(held_against, device)[0] if real else None,
    )
    scorer = scoring.Scorer(metrics, context, real, statistics, watch)
    figures = scorer.figures(_repeated(images.blocks(given, n), shape[0]), count=n)
    about = scorer.about()
    told = {
        "name": registry.info_of(protocol).name,
        "protocol": resolving.plain(protocol),
        "published": {"samples": protocol.samples, "seeds": protocol.seeds},
        "samples": n,
        "source": str(path),
        "metrics": {name: resolving.plain(metric) for name, metric in metrics.items()},
        **{name: about.pop(name) for name in measuring.OF_PROTOCOL},
    }
    return {"protocol": told, "steps": {"given": measuring.combined([figures], scorer.floors)}, **about}


def _shape(
    path: str | Path, given: Any, wanted: tuple[int, ...], name: str, say: Callable[[str], None]
) -> tuple[int, int, int]:
    """The shape to compare at: the samples' own, grey ones repeated to three channels where these are wanted.

    Raises:
        DataError: Sizes differ.
    """
    shape: tuple[int, int, int] = tuple(given.batch(torch.arange(1), Key(0)).x.shape[1:])
    if not wanted or shape == tuple(wanted):
        return shape
    if shape[0] == 1 and tuple(wanted) == (3, *shape[1:]):
        say(f"{path}: grey images, repeated to three channels")
        return 3, *shape[1:]
    sizes = ["x".join(map(str, s)) for s in (shape, wanted)]
    raise DataError(path, f"has {sizes[0]} images, {name} has {sizes[1]} ones", "compare images of one size")


def _repeated(batches: Iterator[Batch], channels: int) -> Iterator[Batch]:
    for x, cond in batches:
        yield Batch(x.expand(-1, channels, -1, -1).contiguous(), cond)


def features_of(path: Path) -> str:
    """The name of the features that statistics are of; empty for a file that holds none."""
    if not published.is_statistics(path):
        return ""
    if path.suffix == ".npz":
        return references.PUBLISHED
    with hdf5.opened(path) as file, hdf5.guarded(path):
        return str(hdf5.told(file).get("features", ""))
