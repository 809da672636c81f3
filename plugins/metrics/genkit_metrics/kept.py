"""A bounded part of a stream of samples."""

from __future__ import annotations

import copy
from typing import Any

import attrs
import torch
from torch import Tensor

from genkit.errors import DataError

PREFIXES: dict[bool | str, str] = {True: "", "held-out": "held_out/"}  # of a reference's arrays
KINDS: dict[bool | str, str] = {True: "training", False: "generated", "held-out": "held-out"}
GOLDEN = (5**0.5 - 1) / 2


@attrs.define(eq=False)
class Kept:
    """At most `limit` rows of a stream, spread evenly over it.

    Row i has the key frac(i (sqrt(5) - 1) / 2), and the rows of the smallest keys stay: all of them while
    there is room, then a set that fills the stream without gaps. The first rows would not do: folders of
    images come class by class. Which rows stay depends on the order of the stream, not on how it is cut.

    Attributes:
        limit: Most rows to keep.
        n: Rows seen.
    """

    limit: int
    n: int = attrs.field(default=0, init=False)
    _bound: float = attrs.field(default=float("inf"), init=False, repr=False)
    _parts: tuple[tuple[Tensor, Tensor], ...] = attrs.field(default=(), init=False, repr=False)

    def update(self, x: Tensor) -> None:
        """Add rows, (B, D).

        Raises:
            DataError: They have another width than before.
        """
        keys = (torch.arange(self.n, self.n + len(x), dtype=torch.float64) * GOLDEN).frac()
        self.n += len(x)
        near = keys < self._bound
        self._append(keys[near], x.detach()[near.to(x.device)].cpu())

    @classmethod
    def of(cls, limit: int, n: int, rows: Tensor) -> Kept:
        """The kept rows of a stream of n that is over."""
        kept = cls(limit)
        kept.update(rows)
        kept.n = n
        return kept

    def merge(self, other: Kept) -> None:
        """Add the rows of another stream; where there is no room for all, each gives its share."""
        self.n += other.n
        for keys, rows in other._parts:
            self._append(keys, rows)

    @property
    def rows(self) -> Tensor:
        """What was kept, in the stream's order: (at most `limit`, D)."""
        self._cut()
        return self._parts[0][1] if self._parts else torch.empty(0, 0)

    def _append(self, keys: Tensor, rows: Tensor) -> None:
        if self._parts and rows.shape[1:] != self._parts[0][1].shape[1:]:
            widths = f"{rows.shape[1]} features after {self._parts[0][1].shape[1]}"
            raise DataError("features", widths, "compare samples by the same features and of the same size")
        self._parts += ((keys, rows),)
        if sum(len(keys) for keys, _ in self._parts) > 2 * self.limit:
            self._cut()

    def _cut(self) -> None:
        if sum(len(keys) for keys, _ in self._parts) <= self.limit and len(self._parts) < 2:
            return
        keys, rows = (torch.cat(column) for column in zip(*self._parts, strict=True))
        if len(keys) > self.limit:
            near = keys.argsort(stable=True)[: self.limit].sort().values
            keys, rows = keys[near], rows[near]
            self._bound = float(keys.max())
        self._parts = ((keys, rows),)

    def __deepcopy__(self, memo: dict[int, Any]) -> Kept:
        """Tensors are replaced and never changed in place, so copies can share them."""
        return copy.copy(self)
