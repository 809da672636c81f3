"""The Fréchet distance as a metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from genkit.errors import DataError
from genkit.keys import Key
from genkit.kinds import Context, Sampled, setting, slot
from genkit_metrics.features import FEATURE, chosen, figures_of, label_of
from genkit_metrics.frechet import Factors, distance_from_factors, factor
from genkit_metrics.moments import Moments
from genkit_metrics.subsample import KINDS, PREFIXES, Subsample

DRAWS = 3  # resamplings that a floor is the mean of


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

    @property
    def figures(self) -> tuple[str, ...]:
        return figures_of(self.features, "fd", "fd_held_out")

    def build(self, context: Context) -> FrechetAccumulator:
        label = label_of(self.features, context)
        return FrechetAccumulator(self.feature, label, Subsample(self.floor_max) if self.floor else None)


@attrs.define(eq=False)
class FrechetAccumulator:
    """Moments of training, generated and held-out features; rows of the training ones for the floor."""

    feature: str
    label: str
    kept: Subsample | None
    moments: dict[bool | str, Moments] = attrs.field(factory=lambda: {part: Moments() for part in KINDS}, init=False)
    factors: Factors = attrs.field(factory=Factors, init=False)

    def update(self, sampled: Sampled, real: bool | str) -> None:
        """Raises DataError for features that are missing, not finite, or of another width."""
        x = chosen(sampled, self.feature)
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
        return {name: distance_from_factors(*law, *generated) for name, law in self._references().items()}

    def floors(self) -> dict[str, float]:
        """What perfect samples would score; none where no training images were kept."""
        if self.kept is None:
            return {}
        rows, references = self.kept.rows, self._references()
        references[f"fd{self.label}"] = _law(_moments(rows), KINDS[True])
        totals = dict.fromkeys(references, 0.0)
        for times in _draws(len(rows), self.moments[False].n):
            drawn = _law(_moments(rows, times), "drawn")
            for name, reference in references.items():
                totals[name] += distance_from_factors(*reference, *drawn) / DRAWS
        return {f"{name}_floor": total for name, total in totals.items()}

    def _references(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The laws that samples are held against, by figure; factored once for all evaluations."""
        names: dict[bool | str, str] = {True: f"fd{self.label}", "held-out": f"fd{self.label}_held_out"}
        there = {part: self.moments[part] for part in names if part is True or self.moments[part].n}
        return {names[part]: _law(moments, KINDS[part], self.factors) for part, moments in there.items()}

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
            n, mean, covariance = (arrays.get(f"{prefix}{self.feature}/{name}") for name in ("n", "mean", "covariance"))
            if mean is not None and covariance is not None:  # published files do not tell n, and none is needed
                self.moments[part] = Moments.of(2 if n is None else int(n), mean, covariance)
            elif part is True:
                return False
        rows = arrays.get(f"{self.feature}/rows")
        if self.kept is not None:
            self.kept = None if rows is None else Subsample.of(self.kept.limit, self.moments[True].n, rows)
        return True


def _draws(n: int, count: int) -> Iterator[Tensor]:
    """How often each of n rows comes among `count` draws with replacement: (n,), always the same."""
    for i in range(DRAWS):
        generator = Key(0).generator("floor", i)
        yield torch.randint(n, (count,), generator=generator).bincount(minlength=n)


def _moments(rows: Tensor, times: Tensor | None = None) -> Moments:
    moments = Moments()
    moments.update(rows, times)
    return moments


def _law(moments: Moments, which: str, factors: Factors | None = None) -> tuple[Tensor, Tensor]:
    """Mean, and factor of the covariance; remembered if `factors` are given."""
    if moments.n < 2:
        raise DataError("fd", f"{moments.n} {which} images", "give at least 2; covariances need them")
    return moments.mean, (factors or factor)(moments.covariance())
