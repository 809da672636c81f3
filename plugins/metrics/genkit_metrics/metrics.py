"""Metrics: accumulators of features of real and generated images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from genkit.errors import DataError
from genkit.keys import Key
from genkit.kinds import Context, Sampled, names, setting, slot
from genkit_metrics.frechet import distance_from_factors, factor
from genkit_metrics.kept import Kept
from genkit_metrics.manifold import precision_recall
from genkit_metrics.moments import Moments

DRAWS = 3  # resamplings that a floor is the mean of
FEATURE = "which of the features, by name"
PREFIXES: dict[bool | str, str] = {True: "", "held-out": "held_out/"}  # of a reference's arrays
KINDS: dict[bool | str, str] = {True: "training", False: "generated", "held-out": "held-out"}


@attrs.frozen(kw_only=True)
class FrechetDistance:
    """Fréchet distance of generated to real features.

    FD = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), covariances over n - 1; with the features of
    Inception-v3 it is known as FID. It falls with the number of samples: compare figures at equal numbers.

    Figures:
        fd: Generated against training images.
        fd_floor: What perfect samples would score: as many images as were generated, drawn with
            replacement from the training images, against these; the mean of 3 fixed draws.
        fd_held_out: Generated against held-out images, where there are any.
        fd_held_out_floor: The same draws from the training images against the held-out ones.

    Floors need the features of the training images: `floor_max` of them at most are kept (4 bytes a
    number). Of more, an evenly spread part is kept, drawn from, and taken as the reference of `fd_floor`;
    `fd` itself always uses all.

    Source: Heusel et al. 2017 (arXiv 1706.08500), eq. 6.
    """

    better = "lower"
    features: Any = slot("features", "pixels", "what is compared")
    feature: str = setting("pool", FEATURE)
    floor: bool = setting(True, "also say what perfect samples would score")
    floor_max: int = setting(
        20_000, "training images kept for the floor, at most; of more, an even part", check=attrs.validators.ge(2)
    )

    def build(self, context: Context) -> FrechetAccumulator:
        return FrechetAccumulator(self.feature, Kept(self.floor_max) if self.floor else None)


@attrs.define(eq=False)
class FrechetAccumulator:
    """Moments of training, generated and held-out features; rows of the training ones for the floor."""

    feature: str
    kept: Kept | None
    moments: dict[bool | str, Moments] = attrs.field(factory=lambda: {part: Moments() for part in KINDS}, init=False)

    def update(self, sampled: Sampled, real: bool | str) -> None:
        """Raises DataError for features that are missing, not finite, or of another width."""
        x = _chosen(sampled, self.feature)
        self.moments[real].update(x)
        if real is True and self.kept is not None:
            self.kept.update(x.float())

    def merge(self, other: FrechetAccumulator) -> None:
        for part, moments in self.moments.items():
            moments.merge(other.moments[part])
        if self.kept is not None and other.kept is not None:
            self.kept.merge(other.kept)

    def compute(self) -> dict[str, float]:
        """Raises DataError where there are fewer than 2 images of a kind."""
        generated = _law(self.moments[False], KINDS[False])
        figures = {"fd": distance_from_factors(*_law(self.moments[True], KINDS[True]), *generated)}
        held_out = _law(self.moments["held-out"], KINDS["held-out"]) if self.moments["held-out"].n else None
        if held_out:
            figures["fd_held_out"] = distance_from_factors(*held_out, *generated)
        return figures

    def floors(self) -> dict[str, float]:
        """What perfect samples would score; none where no training images were kept."""
        if self.kept is None:
            return {}
        held_out = _law(self.moments["held-out"], KINDS["held-out"]) if self.moments["held-out"].n else None
        return _floors(self.kept.rows, self.moments[False].n, held_out)

    def reference(self) -> dict[str, Tensor]:
        """Moments of real images by "pool/n", "pool/mean", "pool/covariance", and rows for the floor."""
        arrays = {}
        for part, prefix in PREFIXES.items():
            if (moments := self.moments[part]).n:
                arrays[f"{prefix}{self.feature}/n"] = torch.tensor([moments.n])
                arrays[f"{prefix}{self.feature}/mean"] = moments.mean
                arrays[f"{prefix}{self.feature}/covariance"] = moments.covariance()
        if self.kept is not None:
            arrays[f"{self.feature}/rows"] = self.kept.rows
        return arrays

    def refer(self, arrays: Mapping[str, Tensor]) -> bool:
        """Whether there are moments of training images; without rows there will be no floor."""
        for part, prefix in PREFIXES.items():
            found = [arrays.get(f"{prefix}{self.feature}/{name}") for name in ("n", "mean", "covariance")]
            if all(array is not None for array in found):
                n, mean, covariance = found
                self.moments[part] = Moments.of(int(n), mean, covariance)
            elif part is True:
                return False
        rows = arrays.get(f"{self.feature}/rows")
        if self.kept is not None:
            self.kept = None if rows is None else Kept.of(self.kept.limit, self.moments[True].n, rows)
        return True


def _floors(rows: Tensor, count: int, held_out: tuple[Tensor, Tensor] | None) -> dict[str, float]:
    """Distances of `count` draws from the rows to these, and to the held-out law."""
    references = {"fd_floor": _law(_moments(rows), KINDS[True])}
    if held_out:
        references["fd_held_out_floor"] = held_out
    totals = dict.fromkeys(references, 0.0)
    for times in _draws(len(rows), count):
        drawn = _law(_moments(rows, times), "drawn")
        for name, reference in references.items():
            totals[name] += distance_from_factors(*reference, *drawn) / DRAWS
    return totals


def _draws(n: int, count: int) -> Iterator[Tensor]:
    """How often each of n rows comes among `count` draws with replacement: (n,), always the same."""
    for i in range(DRAWS):
        generator = Key(0).generator("floor", i)
        yield torch.randint(n, (count,), generator=generator).bincount(minlength=n)


def _moments(rows: Tensor, times: Tensor | None = None) -> Moments:
    moments = Moments()
    moments.update(rows, times)
    return moments


def _law(moments: Moments, which: str) -> tuple[Tensor, Tensor]:
    """Mean, and factor of the covariance."""
    if moments.n < 2:
        raise DataError("fd", f"{moments.n} {which} images", "give at least 2; covariances need them")
    return moments.mean, factor(moments.covariance())


@attrs.frozen(kw_only=True)
class PrecisionRecall:
    """Share of samples on the data's manifold, and of data on theirs.

    Manifolds are balls around samples, each reaching to the k-th nearest neighbour. Both figures depend on
    the number of samples: compare them at equal numbers.

    Figures:
        precision: Share of the generated images that lie on the manifold of the training images.
        recall: Share of the training images that lie on the manifold of the generated ones.
        precision_floor, recall_floor: The same of the held-out images, where there are any, instead of
            generated ones, and at their number: few held-out images make recall_floor low.

    At most `max_samples` images of a kind are used, evenly spread over those that came. The work grows
    with the square of it.

    Source: Kynkäänniemi et al. 2019 (arXiv 1904.06991).
    """

    better = "higher"
    features: Any = slot("features", "pixels", "what is compared")
    feature: str = setting("pool", FEATURE)
    k: int = setting(3, "which neighbour a ball reaches to", check=attrs.validators.ge(1))
    max_samples: int = setting(
        10_000, "images of a kind that are used, at most; of more, an even part", check=attrs.validators.ge(2)
    )

    def build(self, context: Context) -> ManifoldAccumulator:
        return ManifoldAccumulator(self.feature, self.k, {part: Kept(self.max_samples) for part in KINDS})


@attrs.define(eq=False)
class ManifoldAccumulator:
    """Features of training, generated and held-out images."""

    feature: str
    k: int
    kept: dict[bool | str, Kept]

    def update(self, sampled: Sampled, real: bool | str) -> None:
        """Raises DataError for features that are missing."""
        self.kept[real].update(_chosen(sampled, self.feature))

    def merge(self, other: ManifoldAccumulator) -> None:
        for part, kept in self.kept.items():
            kept.merge(other.kept[part])

    def compute(self) -> dict[str, float]:
        """Raises DataError for k or fewer images of a kind, and for features not finite or of other widths."""
        for part, kept in self.kept.items():
            if kept.n <= self.k and (kept.n or part != "held-out"):
                what = f"k = {self.k} with {kept.n} {KINDS[part]} images"
                raise DataError("precision-recall", what, f"give at least {self.k + 1}, or lower k")
        real = self.kept[True].rows
        precision, recall = precision_recall(real, self.kept[False].rows, self.k)
        return {"precision": precision, "recall": recall}

    def floors(self) -> dict[str, float]:
        """The figures of held-out images, where there are any."""
        if not self.kept["held-out"].n:
            return {}
        rows = (self.kept[part].rows for part in (True, "held-out"))
        return dict(zip(("precision_floor", "recall_floor"), precision_recall(*rows, self.k), strict=True))

    def reference(self) -> dict[str, Tensor]:
        """Rows of real images by "pool/rows", and how many there were by "pool/n"."""
        arrays = {}
        for part, prefix in PREFIXES.items():
            if self.kept[part].n:
                arrays[f"{prefix}{self.feature}/rows"] = self.kept[part].rows
                arrays[f"{prefix}{self.feature}/n"] = torch.tensor([self.kept[part].n])
        return arrays

    def refer(self, arrays: Mapping[str, Tensor]) -> bool:
        """Whether there are rows of training images: as many as would be kept, or all."""
        limit, found = self.kept[True].limit, {}
        for part, prefix in PREFIXES.items():
            rows, n = (arrays.get(f"{prefix}{self.feature}/{name}") for name in ("rows", "n"))
            if rows is not None and n is not None and len(rows) >= min(int(n), limit):
                found[part] = Kept.of(limit, int(n), rows)
            elif part is True:
                return False
        self.kept |= found
        return True


def _chosen(sampled: Sampled, feature: str) -> Tensor:
    if feature not in sampled.features:
        raise DataError("metric", f"no feature {feature!r}", f"set feature to one of: {names(sampled.features)}")
    return sampled.features[feature]
