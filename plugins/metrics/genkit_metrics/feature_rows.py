"""What metrics of rows keep: the features of a bounded part of the images of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from genkit.kinds import Context, Sampled, setting
from genkit_metrics.features import chosen, label_of
from genkit_metrics.subsample import KINDS, PREFIXES, Subsample

Figures = dict[str, float]
COMPARED = "what is compared"


def limit(default: int) -> Any:
    text = "images of a kind that are used, at most (4 bytes a feature); of more, an even part"
    return setting(default, text, check=attrs.validators.ge(2))


def require_room(most: int, least: int) -> None:
    if most < least:
        raise ValueError(f"max_samples must be at least {least}: {most}")


def positive(default: int, text: str) -> Any:
    return setting(default, text, check=attrs.validators.ge(1))


@attrs.define(eq=False)
class Rows:
    """Features of training, generated and held-out images, in float32.

    Attributes:
        metric: Makes the figures, by `measure(real, fake)` and `floor(real, held_out, count)`.
        label: Of the features, at the end of the figures' names.
        kept: Rows by kind.
    """

    metric: Any
    label: str
    kept: dict[bool | str, Subsample]

    @classmethod
    def of(cls, metric: Any, context: Context) -> Rows:
        return cls(metric, label_of(metric.features, context), {part: Subsample(metric.max_samples) for part in KINDS})

    def update(self, sampled: Sampled, real: bool | str) -> None:
        """Raises DataError for features that are missing."""
        self.kept[real].update(chosen(sampled, self.metric.feature).float())

    def merge(self, other: Rows) -> None:
        for part, kept in self.kept.items():
            kept.merge(other.kept[part])

    def compute(self) -> Figures:
        """Raises DataError for too few images of a kind, and for features not finite or of other widths."""
        figures = self.metric.measure(self.kept[True].rows, self.kept[False].rows)
        return {f"{name}{self.label}": value for name, value in figures.items()}

    def floors(self) -> Figures:
        """What real images score, where there are enough of them."""
        rows = (self.kept[part].rows for part in (True, "held-out"))
        figures = self.metric.floor(*rows, len(self.kept[False].rows))
        return {f"{name}{self.label}_floor": value for name, value in figures.items()}

    def reference(self) -> dict[str, Tensor]:
        """Rows of real images by "pool/rows", and how many there were by "pool/n"."""
        arrays = {}
        for part, prefix in PREFIXES.items():
            if self.kept[part].n:
                arrays[f"{prefix}{self.metric.feature}/rows"] = self.kept[part].rows
                arrays[f"{prefix}{self.metric.feature}/n"] = torch.tensor([self.kept[part].n])
        return arrays

    def refer(self, arrays: Mapping[str, Tensor]) -> bool:
        """Whether there are rows of training images: as many as would be kept, or all."""
        most, found = self.kept[True].limit, {}
        for part, prefix in PREFIXES.items():
            rows, n = (arrays.get(f"{prefix}{self.metric.feature}/{name}") for name in ("rows", "n"))
            if rows is not None and n is not None and len(rows) >= min(int(n), most):
                found[part] = Subsample.of(most, int(n), rows)
            elif part is True:
                return False
        self.kept |= found
        return True
