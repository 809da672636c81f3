"""Evaluation: figures of a model's samples, at numbers of sampling steps and from several seeds."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from genkit.data.files import sha256
from genkit.denoiser import Denoiser
from genkit.errors import DataError, RecipeError
from genkit.evaluation import references, results, sampling
from genkit.evaluation.references import Statistics
from genkit.evaluation.scoring import Figures, Scorer, Watch
from genkit.kernel import registry
from genkit.kernel.recipe import Recipe
from genkit.kinds import Batch, Context, Data, Protocol_, Spec, names
from genkit.training import processes

OF_PROTOCOL = ("features", "against")  # what an evaluation finds out about its protocol


def evaluate(
    denoiser: Denoiser,
    dataset: Data,
    metrics: Mapping[str, Any],
    context: Context,
    *,
    protocol: Protocol_,
    samples: int,
    steps: tuple[int, ...] = (1,),
    seeds: tuple[int, ...] = (0,),
    labels: str = "data",
    given: Statistics | None = None,
    watch: Watch = lambda what, done, total: None,
) -> dict[str, Any]:
    """Figures at each number of sampling steps, against the training data and the held-out ones.

    Args:
        metrics: Components by the name of their table.
        seeds: Of the latents; with several, figures are means, and the minima and each seed's stand beside.
        labels: Of samples, where the model knows classes: as often as in its training "data", or "evenly".
        given: Statistics to compare with instead of the training data, where a metric can.

    Returns:
        {"steps": {"1": {"figures": {"fd.fd": …}, "nfe": 1}}, "better": …, "features": …, "against": …,
        "seconds": …}; the same on every process.

    Raises:
        DataError: Samples are not finite, or too few, or the statistics are of something else.
    """
    begun = time.monotonic()
    scorer = Scorer(metrics, context, dataset, given, watch)
    label = sampling.EVENLY if denoiser.spec.classes and labels == sampling.EVENLY else None

    def drawn(n: int, seed: int) -> Iterator[Batch]:
        for index, count in sampling.shard(samples, processes.rank(), processes.world()):
            batch = sampling.block(denoiser, index, count, n, seed, label)
            _require_finite(batch.x, f"drawn in {results.step_words(n)}")
            yield Batch(images(batch.x, dataset, protocol), batch.cond)

    table = {}
    for n in steps:
        found = []
        for i, seed in enumerate(seeds, 1):
            what = f"sampling in {results.step_words(n)}" + f", seed {i} of {len(seeds)}" * (len(seeds) > 1)
            found.append(scorer.figures(drawn(n, seed), what, samples))
        table[str(n)] = {**combined(found, scorer.floors), "nfe": denoiser.sampler.nfe(n)}
    return {"steps": table, **scorer.about(), "seconds": round(time.monotonic() - begun, 3)}


def combined(found: list[Figures], floors: Figures) -> dict[str, Any]:
    """One row of an evaluation from the figures of each seed."""
    if len(found) == 1:
        return {"figures": {**found[0], **floors}}
    means, minima = ({name: of(one[name] for one in found) for name in found[0]} for of in (statistics.fmean, min))
    return {"figures": {**means, **floors}, "minimum": minima, "by_seed": found}


def images(x0: Tensor, dataset: Data, protocol: Protocol_) -> Tensor:
    """Samples as uint8 images: by the protocol's quantiser, but toys and latents by their data set's decoder."""
    return protocol.quantise(x0) if dataset.spec.dtype == "uint8" else dataset.decode(x0)


def _require_finite(x0: Tensor, how: str) -> None:
    if bad := int((~torch.isfinite(x0)).flatten(1).any(1).sum()):
        hint = "the model has diverged; another checkpoint may do"
        raise DataError("samples", f"{bad} of {len(x0)} {how} are NaN or infinite", hint)


# ---- evaluations of recipes ----------------------------------------------------------------------


def of_recipe(
    denoiser: Denoiser, dataset: Data, recipe: Recipe, context: Context, watch: Watch = lambda what, done, total: None
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
        protocol=settings.protocol,
        samples=settings.count,
        steps=settings.steps,
        seeds=settings.all_seeds,
        labels=settings.labels,
        given=references.read(settings.reference) if settings.reference else None,
        watch=watch,
    )


def protocol_of(recipe: Recipe, counts: Sequence[int]) -> dict[str, Any]:
    """What figures of a recipe's models depend on besides weights and data.

    Args:
        counts: How often each class came in training; unknown, labels are drawn evenly, and unnamed as ever.
    """
    return {**recipe.protocol(), **({"labels": recipe.evaluate.labels} if counts else {})}


def name_of(recipe: Recipe, counts: Sequence[int]) -> str:
    """The protocol's name, and a hash of what `protocol_of` tells."""
    given = recipe.evaluate.reference
    what = {**protocol_of(recipe, counts), "reference": sha256(given) if given else ""}
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    return f"{registry.info_of(recipe.evaluate.protocol).name}-{digest[:6]}"


def improves(found: dict[str, Any], wanted: str, best: Mapping[str, Any]) -> bool:
    """Whether the figure `wanted`, such as "fd.fd@1", is better than that of the best checkpoint so far.

    Raises:
        RecipeError: The evaluation has no such figure.
    """
    figures = results.figures_of(found)
    if wanted not in figures:
        raise RecipeError("evaluate.best", f"there is no figure {wanted!r}", f"figures: {names(figures)}")
    if best.get("figure") != wanted:
        return True
    lower = found["better"][wanted.partition(".")[0]] == "lower"
    return bool(figures[wanted] < best["value"] if lower else figures[wanted] > best["value"])


def require(recipe: Recipe, context: Context, data: Data) -> None:
    """Find out before a training, and not at its end, that figures could not be made.

    Raises:
        GenkitError: The images are not those of the protocol, samples or (without statistics) training images are
            too few, features lack their weights or labels, or the statistics are of something else.
    """
    settings = recipe.evaluate
    fits(settings.protocol, context.spec)
    for name, metric in recipe.metrics.items():
        _require_enough(name, metric, settings.count, None if settings.reference else len(data))
    for component in {metric.features for metric in recipe.metrics.values()}:
        if hasattr(component, "require"):
            component.require(context)
    if settings.reference:
        given = references.read(settings.reference)
        for metric in recipe.metrics.values():
            features = registry.info_of(metric.features).name
            given.require(shape=context.spec.shape, data=data.identity, features=features)


def _require_enough(name: str, metric: Any, samples: int, real: int | None) -> None:
    least, where = getattr(metric, "least", 1), f"metrics.{name}"
    if samples < least:
        raise DataError(where, f"{samples} generated images, and it takes {least} at least", "raise evaluate.samples")
    if real is not None and real < least and not getattr(metric, "alone", False):
        raise DataError(where, f"{real} training images, and it takes {least} at least", "change its settings")


def fits(protocol: Protocol_, spec: Spec) -> None:
    """Raises DataError where images are not of the shape that a protocol is for."""
    if protocol.shape not in (None, spec.shape):
        wanted, given = ("x".join(map(str, shape)) for shape in (protocol.shape, spec.shape))
        name = registry.info_of(protocol).name
        raise DataError("evaluate.protocol", f"{name} is for {wanted} images, these are {given}", "choose edm-fid")


def require_metrics(metrics: Mapping[str, Any]) -> None:
    """Say so, rather than print an empty table.

    Raises:
        DataError: The recipe names no metric.
    """
    if not metrics:
        raise DataError("metrics", "the recipe names none", 'add for instance [metrics.fd] use = "fd"')
