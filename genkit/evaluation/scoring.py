"""Metrics that have seen the real images, and hold one set of samples after another against them."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from genkit.errors import DataError
from genkit.evaluation import images, references
from genkit.evaluation.references import Statistics
from genkit.kernel import registry
from genkit.kernel.identity import essence, made_of
from genkit.kinds import Accumulator, Batch, Context, Data, Event, Sampled
from genkit.training import processes

Watch = Callable[[str, int, int], None]  # told what is looked at or drawn, how many so far, and of how many
Figures = dict[str, float]
PARTS: tuple[bool | str, ...] = (True, "held-out")  # of real images


class Scorer:
    """Metrics that have seen the real images, ready for one set of samples after another.

    Every process holds one, and each looks at its share of the images; the first one has the real side.
    """

    def __init__(
        self,
        metrics: Mapping[str, Any],
        context: Context,
        dataset: Data | None,
        given: Statistics | None = None,
        watch: Watch = lambda what, done, total: None,
        *,
        held_out: bool = True,
    ) -> None:
        self.metrics, self.context, self.dataset, self.given = metrics, context, dataset, given
        self.held_out = dataset.held_out if dataset and held_out else None
        self.floors: Figures = {}
        self.against: dict[str, str] = {}
        self._watch = watch
        self._extract = _Features(metrics, context)
        self.real = self._new()
        self._look()

    def figures(self, batches: Iterable[Batch], what: str = "looking at samples", count: int = 0) -> Figures:
        """Figures of `count` samples: this process's share of them comes in, those of all come out."""

        def mine() -> dict[str, Accumulator]:
            fresh = self._new()
            self._feed(fresh, batches, False, what, count)
            return fresh

        def all_of(parts: list[dict[str, Accumulator]]) -> tuple[Figures, Figures]:
            whole = copy.deepcopy(self.real)
            _merge(whole, parts)
            figures = _named({t: acc.compute() for t, acc in whole.items()})
            floors = self.floors or _named({t: acc.floors() for t, acc in whole.items() if hasattr(acc, "floors")})
            return figures, floors

        found, self.floors = processes.reduce(mine, all_of)
        return found

    def about(self) -> dict[str, Any]:
        """Which way figures improve, by which features they were made, and against what."""
        return {
            "better": {name: type(metric).better for name, metric in self.metrics.items()},
            "features": {name: self._extract.label(metric.features) for name, metric in self.metrics.items()},
            "against": self.against,
        }

    def statistics(self) -> Statistics:
        """What the metrics keep of the training data; on the first process."""
        arrays: dict[str, Tensor] = {}
        for accumulator in self.real.values():
            arrays |= {n: a for n, a in _reference(accumulator).items() if not n.startswith("held_out/")}
        return self._statistics(next(iter(self.metrics.values())), arrays)

    # ---- the real side ---------------------------------------------------------------------------

    def _look(self) -> None:
        """Fill the real side: from statistics given, from what was kept, or from the data."""
        known = processes.reduce(lambda: None, lambda _: self._known())
        self.against = {name: what for name, (what, _) in known.items()}
        training: Any = self.dataset
        if self.given is not None and "images" in self.given.arrays:
            training = images.Images(self.given.arrays["images"])
        for real, data in zip(PARTS, (training, self.held_out), strict=True):
            needing = {name for name, (_, missing) in known.items() if real in missing}
            if data is not None and needing:
                self._see(data, real, needing)
        self._keep({name for name, (_, missing) in known.items() if True in missing})

    def _known(self) -> dict[str, tuple[str, tuple[bool | str, ...]]]:
        """Of each metric: what it is held against, and which part of the data it has yet to see."""
        found: dict[str, tuple[str, tuple[bool | str, ...]]] = {}
        for name, metric in self.metrics.items():
            accumulator, missing = self.real[name], PARTS
            what = f"training data {self.dataset.identity}" if self.dataset else "nothing"
            if self.given is not None:
                self._check_given(metric)
                what = Path(self.given.origin).name
                if _refers(accumulator, self.given.arrays):
                    missing = ("held-out",)
                elif "images" not in self.given.arrays:
                    what = self._fallback(name, metric)
            else:
                path = self._path(metric)
                kept = references.cached(path) if path else None
                missing = () if _refers(accumulator, kept.arrays if kept else {}) else missing
            found[name] = (what, missing)
        return found

    def _check_given(self, metric: Any) -> None:
        assert self.given is not None
        spec, data = self.context.spec, self.dataset.identity if self.dataset else ""
        self.given.require(shape=spec.shape, data=data, **self._extract.names(metric.features))

    def _fallback(self, name: str, metric: Any) -> str:
        if self.dataset is None and getattr(type(metric), "alone", False):
            return "nothing"
        if self.dataset is None:
            assert self.given is not None
            what = f"has no images, which the metric {name!r} needs"
            raise DataError(self.given.origin, what, "compare with a data set, or leave the metric out")
        return f"training data {self.dataset.identity}"

    def _see(self, data: Any, real: bool | str, needing: set[str]) -> None:
        def mine() -> dict[str, Accumulator]:
            fresh = {name: acc for name, acc in self._new().items() if name in needing}
            what = f"looking at {'training' if real is True else real} images"
            self._feed(fresh, images.blocks(data), real, what, len(data))
            return fresh

        processes.reduce(mine, lambda parts: _merge(self.real, parts))

    def _keep(self, looked: set[str]) -> None:
        """Keep what was extracted for the next evaluation."""
        if processes.rank() > 0 or self.given is not None:
            return
        for name in looked:
            path, arrays = self._path(self.metrics[name]), _reference(self.real[name])
            if path and arrays:
                with suppress(DataError):  # a cache that cannot be written costs time, and no figures
                    references.write(path, self._statistics(self.metrics[name], arrays))

    def _path(self, metric: Any) -> Path | None:
        """Where what a metric keeps of the data is kept; toys are quicker drawn than read."""
        if self.context.cache_dir is None or self.dataset is None or self.context.spec.dtype != "uint8":
            return None
        held_out = self.held_out
        key = {
            "metric": essence(metric),
            "made of": made_of(metric, metric.features),
            "features": self._extract.hash(metric.features),
            "data": [self.dataset.identity, held_out.identity if held_out else ""],
            "counts": [len(self.dataset), len(held_out) if held_out else 0],
            "shape": list(self.context.spec.shape),
        }
        return references.cache_file(self.context.cache_dir, key)

    def _statistics(self, metric: Any, arrays: dict[str, Tensor]) -> Statistics:
        names, spec = self._extract.names(metric.features), self.context.spec
        data = self.dataset.identity if self.dataset else ""
        pipeline = "as stored" if spec.dtype == "uint8" else "decoded by the data set"
        return Statistics(arrays=arrays, data=data, shape=spec.shape, pipeline=pipeline, **names)

    # ---- images through features into metrics ----------------------------------------------------

    def _new(self) -> dict[str, Accumulator]:
        return {name: registry.build(metric, self.context) for name, metric in self.metrics.items()}

    def _feed(
        self, accumulators: Mapping[str, Accumulator], batches: Iterable[Batch], real: bool | str, what: str, total: int
    ) -> None:
        wanted, seen = {self._extract.of[name] for name in accumulators}, 0
        for batch in batches:
            features = self._extract(batch.x, wanted)
            for name, accumulator in accumulators.items():
                accumulator.update(Sampled(batch.x, features[self._extract.of[name]], batch.cond), real)
            seen += len(batch.x) * processes.world()
            self._watch(what, min(seen, total), total)


def progress(tell: Callable[[Event], None]) -> Watch:
    """A watch that tells events, with the seconds that what is done will still take, at its own pace so far."""
    what, since, first = "", 0.0, 0

    def watch(now: str, done: int, total: int) -> None:
        nonlocal what, since, first
        if now != what or done <= first:
            what, since, first = now, time.monotonic(), done
        pace = (time.monotonic() - since) / (done - first) if done > first else None
        left = None if pace is None else round(pace * (total - done), 1)
        tell({"event": "sampling", "what": what, "done": done, "total": total, "left_sec": left})

    return watch


class _Features:
    """Each distinct features component, built once and run once per batch."""

    def __init__(self, metrics: Mapping[str, Any], context: Context) -> None:
        self.of = {name: metric.features for name, metric in metrics.items()}
        self._built = {f: registry.build(f, context) for f in set(self.of.values())}

    def __call__(self, images: Tensor, wanted: Iterable[Any]) -> dict[Any, dict[str, Tensor]]:
        return {component: self._built[component](images) for component in wanted}

    def hash(self, component: Any) -> str:
        """Of the component, its settings and its weights: figures of other features are other figures."""
        what = {"is": essence(component), "weights": getattr(self._built[component], "identity", "")}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]

    def names(self, component: Any) -> dict[str, str]:
        return {"features": registry.info_of(component).name, "hash": self.hash(component)}

    def label(self, component: Any) -> str:
        return " ".join(self.names(component).values())


def _merge(whole: dict[str, Accumulator], parts: list[dict[str, Accumulator]]) -> None:
    for part in parts:
        for name, accumulator in part.items():
            whole[name].merge(accumulator)


def _named(figures: Mapping[str, Figures]) -> Figures:
    return {f"{table}.{name}": value for table, found in figures.items() for name, value in found.items()}


def _reference(accumulator: Any) -> dict[str, Tensor]:
    return accumulator.reference() if hasattr(accumulator, "reference") else {}


def _refers(accumulator: Any, arrays: Mapping[str, Tensor]) -> bool:
    return bool(hasattr(accumulator, "refer") and accumulator.refer(arrays))
