"""Metrics by kernels: discrepancies of two sets of features."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from genkit.errors import DataError
from genkit.keys import Key
from genkit.kinds import Context, setting, slot
from genkit_metrics.feature_rows import COMPARED, Figures, Rows, limit, positive, require_room
from genkit_metrics.features import FEATURE, figures_of
from genkit_metrics.kid import gaussian_mmd2, kid
from genkit_metrics.subsample import KINDS


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
    subsets: int = positive(100, "how many subsets the figure is the mean of")
    subset_size: int = setting(1000, "images of a kind in each", check=attrs.validators.ge(2))
    max_samples: int = limit(20_000)

    def __attrs_post_init__(self) -> None:
        require_room(self.max_samples, self.least)

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
class Cmmd:
    """Squared discrepancy under a Gaussian kernel, times 1,000: CMMD where the features are CLIP's.

    Every pair counts, also an image with itself, as in the published code: compare figures at equal numbers.

    Figures:
        cmmd: Generated against training images.
        cmmd_floor: Held-out images, where there are any, instead of generated ones, and at their number.

    Source: Jayasumana et al. 2023 (arXiv 2401.09603), eq. 4 and section 4.
    """

    better = "lower"
    features: Any = slot("features", "clip", COMPARED)
    feature: str = setting("pool", FEATURE)
    sigma: float = setting(10.0, "width of the kernel, in the features' units", check=attrs.validators.gt(0))
    scale: float = setting(1000.0, "what the figure is multiplied by", check=attrs.validators.gt(0))
    max_samples: int = limit(30_000)

    @property
    def figures(self) -> tuple[str, ...]:
        return figures_of(self.features, "cmmd")

    def build(self, context: Context) -> Rows:
        return Rows.of(self, context)

    def measure(self, real: Tensor, fake: Tensor) -> Figures:
        return {"cmmd": self.scale * gaussian_mmd2(real, fake, self.sigma)}

    def floor(self, real: Tensor, held_out: Tensor, count: int) -> Figures:
        return self.measure(real, held_out) if len(held_out) > 1 else {}
