"""Mean and covariance of a stream of samples."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from genkit.errors import DataError

CHUNK = 4096  # rows in float64 at a time, whatever comes in at once


@attrs.define(eq=False)
class Moments:
    """Mean and covariance of samples that come in batches, in float64 and in memory of D^2.

    Batches are added up by the update of Chan et al.: with means m, sums of squares M about them, and
    delta = m2 - m1,

        m = m1 + delta n2 / n,    M = M1 + M2 + delta delta^T n1 n2 / n.

    Nothing large is ever subtracted from something large, so a mean of 1,000 standard deviations costs
    no digits of the covariance, and how samples are cut into batches or split over processes changes
    rounding only. Raw sums of squares lose 1e-7 there in float64, and everything in float32.

    Attributes:
        n: Samples so far.

    Source: Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample
    variances".
    """

    n: int = attrs.field(default=0, init=False)
    _mean: Tensor | None = attrs.field(default=None, init=False, repr=False)
    _squares: Tensor | None = attrs.field(default=None, init=False, repr=False)

    @classmethod
    def of(cls, n: int, mean: Tensor, covariance: Tensor) -> Moments:
        """Those of n samples whose mean and covariance (over n - 1) are known."""
        moments = cls()
        moments._add(n, mean.double().cpu(), covariance.double().cpu() * (n - 1))
        return moments

    def update(self, x: Tensor, times: Tensor | None = None) -> None:
        """Add samples.

        Args:
            x: (B, D), any dtype and device.
            times: How often each row counts, whole numbers (B,); once if not given.

        Raises:
            DataError: `x` is no matrix, is not finite, or has another width than before; `times` another length.
        """
        if x.ndim != 2 or not x.shape[1]:
            raise DataError("features", f"shape {tuple(x.shape)}", "give a matrix (samples, features)")
        weights = torch.ones(len(x), dtype=torch.int64) if times is None else times
        if len(weights) != len(x):
            raise DataError("features", f"{len(weights)} counts for {len(x)} samples", "give one for each")
        for start in range(0, len(x), CHUNK):
            rows, weight = x[start : start + CHUNK].detach(), weights[start : start + CHUNK]
            rows = (rows.cpu() if rows.device.type == "mps" else rows).double()  # MPS has no float64
            if not bool(torch.isfinite(rows).all()):
                hint = "look at the samples: the model may have diverged"
                raise DataError("features", "NaN or infinite values", hint)
            if n := int(weight.sum()):
                self._add(n, *_sums(rows, weight.to(rows), n))

    def merge(self, other: Moments) -> None:
        """Add the samples that `other` has seen.

        Raises:
            DataError: Theirs have another width.
        """
        if other._mean is not None and other._squares is not None:
            self._add(other.n, other._mean, other._squares)

    def _add(self, n: int, mean: Tensor, squares: Tensor) -> None:
        if self._mean is None or self._squares is None:
            self.n, self._mean, self._squares = n, mean.clone(), squares.clone()
            return
        if mean.shape != self._mean.shape:
            widths = f"{len(mean)} features after {len(self._mean)}"
            raise DataError("features", widths, "compare samples by the same features and of the same size")
        delta = mean - self._mean
        share = n / (self.n + n)
        self._mean += delta * share
        self._squares += squares
        self._squares.addr_(delta, delta, alpha=self.n * share)
        self.n += n

    @property
    def mean(self) -> Tensor:
        """float64, (D,).

        Raises:
            DataError: There are no samples yet.
        """
        if self._mean is None:
            raise DataError("moments", "no samples", "update with at least one")
        return self._mean.clone()

    def covariance(self) -> Tensor:
        """M / (n - 1), float64, (D, D), symmetric.

        Raises:
            DataError: There are fewer than 2 samples.
        """
        if self._squares is None or self.n < 2:
            raise DataError("covariance", f"{self.n} samples", "give at least 2")
        return (self._squares + self._squares.T) / (2 * (self.n - 1))


def _sums(rows: Tensor, weight: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Mean, and sum of squares about it; made where the rows are, kept on the CPU."""
    mean = weight @ rows / n
    centred = rows - mean
    return mean.cpu(), ((centred * weight[:, None]).T @ centred).cpu()
