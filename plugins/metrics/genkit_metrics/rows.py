"""Metrics that need the features of all images at once."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from genkit.errors import DataError
from genkit.keys import Key
from genkit.kinds import Context, setting, slot
from genkit_metrics.feature_rows import Figures, Rows
from genkit_metrics.features import FEATURE, figures_of
from genkit_metrics.inception_score import inception_score
from genkit_metrics.kid import kid
from genkit_metrics.manifold import density_coverage, precision_recall
from genkit_metrics.subsample import KINDS, Subsample

COMPARED = "what is compared"


def _limit(default: int) -> Any:
    text = "images of a kind that are used, at most (4 bytes a feature); of more, an even part"
    return setting(default, text, check=attrs.validators.ge(2))


def _require_room(most: int, least: int) -> None:
    if most < least:
        raise ValueError(f"max_samples must be at least {least}: {most}")


def _positive(default: int, text: str) -> Any:
    return setting(default, text, check=attrs.validators.ge(1))


@attrs.frozen(kw_only=True)
class PrecisionRecall:
    """Share of samples on the data's manifold, and of data on theirs.

    Manifolds are balls around samples, each reaching to the k-th nearest neighbour. Both figures depend on
    the number of samples: compare them at equal numbers. The work grows with the square of it.

    Figures:
        precision: Share of the generated images that lie on the manifold of the training images.
        recall: Share of the training images that lie on the manifold of the generated ones.
        precision_floor, recall_floor: The same of the held-out images, where there are more than k, instead
            of generated ones, and at their number: few held-out images make recall_floor low.

    Source: Kynkäänniemi et al. 2019 (arXiv 1904.06991).
    """

    better = "higher"
    features: Any = slot("features", "pixels", COMPARED)
    feature: str = setting("pool", FEATURE)
    k: int = _positive(3, "which neighbour a ball reaches to")
    max_samples: int = _limit(10_000)

    def __attrs_post_init__(self) -> None:
        _require_room(self.max_samples, self.least)

    @property
    def least(self) -> int:
        return self.k + 1

    @property
    def figures(self) -> tuple[str, ...]:
        return figures_of(self.features, "precision", "recall")

    def build(self, context: Context) -> Rows:
        return Rows.of(self, context)

    def measure(self, real: Tensor, fake: Tensor) -> Figures:
        return dict(zip(("precision", "recall"), precision_recall(real, fake, self.k), strict=True))

    def floor(self, real: Tensor, held_out: Tensor, count: int) -> Figures:
        return self.measure(real, held_out) if len(held_out) > self.k else {}


@attrs.frozen(kw_only=True)
class DensityCoverage:
    """How deep samples lie in the data's manifold, and how much of it they reach.

    Balls are those of precision and recall, around training images alone. Density is not thrown off by an
    outlier's large ball as precision is, coverage not by one of a generated image as recall is.

    Figures:
        density: Mean number of balls that a generated image lies in, over k; may exceed 1.
        coverage: Share of the balls that hold a generated image.
        density_floor, coverage_floor: The same of the held-out images, where there are any, at their number.

    Source: Naeem et al. 2020 (arXiv 2002.09797).
    """

    better = "higher"
    features: Any = slot("features", "pixels", COMPARED)
    feature: str = setting("pool", FEATURE)
    k: int = _positive(5, "which neighbour a ball reaches to")
    max_samples: int = _limit(10_000)

    def __attrs_post_init__(self) -> None:
        _require_room(self.max_samples, self.k + 1)

    @property
    def figures(self) -> tuple[str, ...]:
        return figures_of(self.features, "density", "coverage")

    def build(self, context: Context) -> Rows:
        return Rows.of(self, context)

    def measure(self, real: Tensor, fake: Tensor) -> Figures:
        return dict(zip(("density", "coverage"), density_coverage(real, fake, self.k), strict=True))

    def floor(self, real: Tensor, held_out: Tensor, count: int) -> Figures:
        return self.measure(real, held_out) if len(held_out) else {}


@attrs.frozen(kw_only=True)
class KernelDistance:
    """Kernel distance (KID) of generated to real features: unbiased, whatever the number of samples.

    The squared maximum mean discrepancy under (a b / D + 1)^3, the mean over subsets drawn without
    replacement, always the same.

    Figures:
        kid: Generated against training images.
        kid_floor: Training images against others of them, in as many subsets of the same size; where there
            are enough for two such subsets. About 0: how far from it tells the noise of `kid`.

    Source: Bińkowski et al. 2018 (arXiv 1801.01401).
    """

    better = "lower"
    features: Any = slot("features", "pixels", COMPARED)
    feature: str = setting("pool", FEATURE)
    subsets: int = _positive(100, "how many subsets the figure is the mean of")
    subset_size: int = setting(1000, "images of a kind in each", check=attrs.validators.ge(2))
    max_samples: int = _limit(20_000)

    def __attrs_post_init__(self) -> None:
        _require_room(self.max_samples, self.least)

    @property
    def least(self) -> int:
        return self.subset_size

    @property
    def figures(self) -> tuple[str, ...]:
        return figures_of(self.features, "kid")

    def build(self, context: Context) -> Rows:
        return Rows.of(self, context)

    def measure(self, real: Tensor, fake: Tensor) -> Figures:
        for rows, kind in ((real, True), (fake, False)):
            if len(rows) < self.subset_size:
                hint = f"give at least subset_size = {self.subset_size}, or lower it"
                raise DataError("kid", f"{len(rows)} {KINDS[kind]} images", hint)
        draws = zip(self._draws("real", len(real)), self._draws("fake", len(fake)), strict=True)
        return {"kid": kid(real, fake, [(x[: self.subset_size], y[: self.subset_size]) for x, y in draws])}

    def floor(self, real: Tensor, held_out: Tensor, count: int) -> Figures:
        size = self.subset_size
        if len(real) < 2 * size:
            return {}
        halves = [(order[:size], order[size : 2 * size]) for order in self._draws("floor", len(real))]
        return {"kid": kid(real, real, halves)}

    def _draws(self, purpose: str, n: int) -> list[Tensor]:
        """Orders of n images, one for each subset."""
        return [torch.randperm(n, generator=Key(0).generator(f"kid {purpose}", i)) for i in range(self.subsets)]


@attrs.frozen(kw_only=True)
class InceptionScore:
    """Inception score: each image clearly of one class, and all classes there; needs a classifier's logits.

    exp of the mean divergence of p(class | image) from p(class). It looks at generated images alone, and so
    says nothing about how near to the data they are.

    Figures:
        is: The mean over parts of the generated images, in a fixed random order.
        is_floor: The score of as many training images, where there are as many.

    Source: Salimans et al. 2016 (arXiv 1606.03498).
    """

    better = "higher"
    alone = True
    features: Any = slot("features", "inception", "whose classes")
    feature: str = setting("logits", FEATURE)
    splits: int = _positive(10, "parts that the figure is the mean of")
    max_samples: int = _limit(50_000)

    def __attrs_post_init__(self) -> None:
        _require_room(self.max_samples, self.least)

    @property
    def least(self) -> int:
        return self.splits

    @property
    def figures(self) -> tuple[str, ...]:
        return figures_of(self.features, "is")

    def build(self, context: Context) -> Rows:
        return Rows.of(self, context)

    def measure(self, real: Tensor, fake: Tensor) -> Figures:
        order = torch.randperm(len(fake), generator=Key(0).generator("inception score"))
        return {"is": inception_score(fake[order], self.splits)}

    def floor(self, real: Tensor, held_out: Tensor, count: int) -> Figures:
        if len(real) < count:
            return {}
        return self.measure(real, Subsample.of(count, len(real), real).rows)
