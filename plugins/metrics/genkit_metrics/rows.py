"""Metrics that need the features of all images at once."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from genkit.keys import Key
from genkit.kinds import Context, setting, slot
from genkit_metrics.feature_rows import COMPARED, Figures, Rows, limit, positive, require_room
from genkit_metrics.features import FEATURE, figures_of
from genkit_metrics.inception_score import inception_score
from genkit_metrics.manifold import authenticity, density_coverage, precision_recall
from genkit_metrics.subsample import Subsample


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
    k: int = positive(3, "which neighbour a ball reaches to")
    max_samples: int = limit(10_000)

    def __attrs_post_init__(self) -> None:
        require_room(self.max_samples, self.least)

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
    k: int = positive(5, "which neighbour a ball reaches to")
    max_samples: int = limit(10_000)

    def __attrs_post_init__(self) -> None:
        require_room(self.max_samples, self.k + 1)

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
class Authenticity:
    """Share of samples that are no copies of training images, told by these images' own neighbours.

    A sample is no copy where its nearest training image has another training image nearer to it than the sample is.

    Images that were never trained on are the measure: a model that scores far less than `authenticity_floor` has
    learnt pictures by heart, one that scores more may be far from the data. The work grows with the square of the
    number of samples; of a part of the training images, copies of the others are not found.

    Figures:
        authenticity: Of the generated images.
        authenticity_floor: Of the held-out ones, where there are any.

    Source: Alaa et al. 2022 (arXiv 2102.08921), section 3.3.
    """

    better = "higher"
    features: Any = slot("features", "pixels", COMPARED)
    feature: str = setting("pool", FEATURE)
    max_samples: int = limit(50_000)

    @property
    def figures(self) -> tuple[str, ...]:
        return figures_of(self.features, "authenticity")

    def build(self, context: Context) -> Rows:
        return Rows.of(self, context)

    def measure(self, real: Tensor, fake: Tensor) -> Figures:
        return {"authenticity": authenticity(real, fake)}

    def floor(self, real: Tensor, held_out: Tensor, count: int) -> Figures:
        return self.measure(real, held_out) if len(held_out) else {}


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
    splits: int = positive(10, "parts that the figure is the mean of")
    max_samples: int = limit(50_000)

    def __attrs_post_init__(self) -> None:
        require_room(self.max_samples, self.least)

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
