"""Figures of a denoiser: samples and data go once through the features, which all metrics share."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from genkit import distributed, registry, sampling
from genkit.denoiser import Denoiser
from genkit.errors import DataError
from genkit.keys import Key
from genkit.kinds import Accumulator, Batch, Context, Data, Sampled
from genkit.recipe import Recipe

Watch = Callable[[int, int], None]


def evaluate(
    denoiser: Denoiser,
    dataset: Data,
    metrics: Mapping[str, Any],
    context: Context,
    *,
    samples: int,
    steps: tuple[int, ...] = (1,),
    seed: int = 0,
    watch: Watch = lambda done, total: None,
) -> dict[str, Any]:
    """Figures at each number of sampling steps, against the training data and the held-out ones.

    Args:
        metrics: Components by the name of their table.
        watch: Called with the samples drawn so far and in all.

    Returns:
        {"steps": {"1": {"figures": {"fd.fd": …}, "nfe": 1}}, "seconds": …}; the same on every process.
    """
    begun = time.monotonic()
    extract = _Features(metrics, context)
    real = {name: registry.build(metric, context) for name, metric in metrics.items()}
    if distributed.rank() == 0:  # merging adds the processes' accumulators up
        _feed_real(real, dataset, extract)
    table, done = {}, 0
    for n in steps:
        accumulators = copy.deepcopy(real)
        for index, count in sampling.shard(samples, distributed.rank(), distributed.world()):
            drawn = sampling.block(denoiser, index, count, n, seed)
            _feed(accumulators, Batch(dataset.decode(drawn.x), drawn.cond), extract, False)
            done += count * distributed.world()
            watch(min(done, samples * len(steps)), samples * len(steps))
        merged = _merged(accumulators)
        figures = {f"{t}.{f}": v for t, acc in merged.items() for f, v in {**acc.compute(), **_floors(acc)}.items()}
        table[str(n)] = {"figures": figures, "nfe": denoiser.sampler.nfe(n)}
    return {"steps": table, "seconds": round(time.monotonic() - begun, 3)}


def of_recipe(
    denoiser: Denoiser, dataset: Data, recipe: Recipe, context: Context, watch: Watch = lambda done, total: None
) -> dict[str, Any]:
    """What a recipe asks for; without metrics, nothing."""
    settings = recipe.evaluate
    if not recipe.metrics:
        return {"steps": {}, "seconds": 0.0}
    return evaluate(
        denoiser,
        dataset,
        recipe.metrics,
        context,
        samples=settings.samples,
        steps=settings.steps,
        seed=settings.seed,
        watch=watch,
    )


class _Features:
    """Each distinct features component, built once and run once per batch."""

    def __init__(self, metrics: Mapping[str, Any], context: Context) -> None:
        self.of = {name: metric.features for name, metric in metrics.items()}
        self._built = {f: registry.build(f, context) for f in set(self.of.values())}

    def __call__(self, images: Tensor) -> dict[Any, dict[str, Tensor]]:
        return {component: built(images) for component, built in self._built.items()}


def _feed(accumulators: Mapping[str, Accumulator], batch: Batch, extract: _Features, real: bool | str) -> None:
    features = extract(batch.x)
    for name, accumulator in accumulators.items():
        accumulator.update(Sampled(batch.x, features[extract.of[name]], batch.cond), real)


def _feed_real(accumulators: Mapping[str, Accumulator], dataset: Data, extract: _Features) -> None:
    for part, real in ((dataset, True), (dataset.held_out, "held-out")):
        if part is not None:
            for batch in _images(part):
                _feed(accumulators, batch, extract, real)


def _images(dataset: Data) -> Iterator[Batch]:
    """All of a data set as uint8 images, in order; the same on every process."""
    for start in range(0, len(dataset), sampling.BLOCK):
        batch = dataset.batch(torch.arange(start, min(start + sampling.BLOCK, len(dataset))), Key(0))
        images = batch.x if batch.x.dtype == torch.uint8 else dataset.decode(batch.x)
        yield Batch(images, batch.cond)


def _floors(accumulator: Accumulator) -> dict[str, float]:
    found: dict[str, float] = accumulator.floors() if hasattr(accumulator, "floors") else {}
    return found


def _merged(accumulators: dict[str, Accumulator]) -> dict[str, Accumulator]:
    """The accumulators of all processes as one."""
    first, *others = distributed.gather(accumulators)
    for other in others:
        for name, accumulator in first.items():
            accumulator.merge(other[name])
    return first  # type: ignore[no-any-return]


def require_metrics(metrics: Mapping[str, Any]) -> None:
    """Say so, rather than print an empty table.

    Raises:
        DataError: The recipe names no metric.
    """
    if not metrics:
        raise DataError("metrics", "the recipe names none", 'add for instance [metrics.fd] use = "fd"')
