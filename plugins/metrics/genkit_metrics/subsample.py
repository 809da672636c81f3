"""A bounded part of a stream of samples."""

from __future__ import annotations

import copy
from typing import Any

import attrs
import torch
from torch import Tensor

from genkit.errors import DataError
from genkit.evaluation import sampling
from genkit.training import processes

PREFIXES: dict[bool | str, str] = {True: "", "held-out": "held_out/"}  # of a reference's arrays
KINDS: dict[bool | str, str] = {True: "training", False: "generated", "held-out": "held-out"}
GOLDEN = (5**0.5 - 1) / 2
Part = tuple[Tensor, Tensor, Tensor]  # of the rows: keys, places in the stream, features


@attrs.define(eq=False)
class Subsample:
    """At most `limit` rows of a stream, spread evenly over it.

    Row i has the key frac(i (sqrt(5) - 1) / 2), and the rows of the smallest keys stay: all of them while
    there is room, then a set that fills the stream without gaps. The first rows would not do: folders of
    images come class by class. Which rows stay depends on the order of the stream, not on how it is cut, nor on
    how many processes share it.

    Attributes:
        limit: Most rows to keep.
        n: Rows seen.
    """

    limit: int
    n: int = 0
    _bound: float = attrs.field(default=float("inf"), init=False, repr=False)
    _parts: tuple[Part, ...] = attrs.field(default=(), init=False, repr=False)

    def update(self, x: Tensor) -> None:
        """Add rows, (B, D).

        Raises:
            DataError: They have another width than before.
        """
        places = sampling.places(self.n, len(x), processes.rank(), processes.world())
        keys = _keys(places)
        self.n += len(x)
        near = keys < self._bound
        self._append(keys[near], places[near], x.detach()[near.to(x.device)].cpu())

    @classmethod
    def of(cls, limit: int, n: int, rows: Tensor) -> Subsample:
        """The kept rows of a stream of n that is over."""
        kept = cls(limit, n)
        places = torch.arange(len(rows))
        kept._append(_keys(places), places, rows)
        return kept

    def merge(self, other: Subsample) -> None:
        """Add what another process has of the stream; in one process alone, another stream that comes after.

        Where there is no room for all of two streams, each gives its share.
        """
        after = self.n if processes.world() == 1 else 0
        self.n += other.n
        for keys, places, rows in other._parts:
            self._append(keys, places + after, rows)

    @property
    def rows(self) -> Tensor:
        """What was kept, in the stream's order: (at most `limit`, D)."""
        self._cut()
        return self._parts[0][2] if self._parts else torch.empty(0, 0)

    def _append(self, keys: Tensor, places: Tensor, rows: Tensor) -> None:
        if self._parts and rows.shape[1:] != self._parts[0][2].shape[1:]:
            widths = f"{rows.shape[1]} features after {self._parts[0][2].shape[1]}"
            raise DataError("features", widths, "compare samples by the same features and of the same size")
        self._parts += ((keys, places, rows),)
        if sum(len(keys) for keys, *_ in self._parts) > 2 * self.limit:
            self._cut()

    def _cut(self) -> None:
        if sum(len(keys) for keys, *_ in self._parts) <= self.limit and len(self._parts) < 2:
            return
        keys, places, rows = (torch.cat(column) for column in zip(*self._parts, strict=True))
        near = keys.argsort(stable=True)[: self.limit]
        if len(near) < len(keys):
            self._bound = float(keys[near].max())
        near = near[places[near].argsort()]
        self._parts = ((keys[near], places[near], rows[near]),)

    def __deepcopy__(self, memo: dict[int, Any]) -> Subsample:
        """Tensors are replaced and never changed in place, so copies can share them."""
        return copy.copy(self)


def _keys(places: Tensor) -> Tensor:
    return (places.double() * GOLDEN).frac()
