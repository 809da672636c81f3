"""The Fréchet distance of two normal laws, from factors of their covariances."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from genkit.errors import DataError

WHERE = "Fréchet distance"
ASYMMETRY = 1e-6  # of the largest entry: what statistics in float32 may have
INDEFINITE = 1e-7  # of the largest eigenvalue: more below zero is no rounding
NEGATIVE = 1e-9  # of both traces: a distance this far below zero is zero


def frechet_distance(mean1: Any, cov1: Any, mean2: Any, cov2: Any) -> float:
    """FD = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), the squared 2-Wasserstein distance of two normals.

    With S = A A^T, tr (S1 S2)^(1/2) is the sum of the singular values of A1^T A2. The root of the product
    itself loses half of the digits in every direction without variance, which is where FIDs below zero
    come from; singular values of factors keep them all, for singular covariances too.

    Args:
        mean1, mean2: (D,), tensors or arrays.
        cov1, cov2: (D, D); symmetric to 1e-6 of the largest entry.

    Returns:
        The distance, in squared units of the features.

    Raises:
        DataError: Something is not finite, shapes differ, or a covariance is asymmetric or has an
            eigenvalue below -1e-7 of the largest.

    Source: Dowson & Landau 1982; as FID: Heusel et al. 2017 (arXiv 1706.08500), eq. 6.
    """
    return distance_from_factors(mean1, factor(cov1), mean2, factor(cov2))


def factor(cov: Any) -> Tensor:
    """A with A A^T = S: keep a reference's, to factor it once.

    Cholesky's where the smallest eigenvalue is well above rounding (10 D eps of the largest variance), else
    V sqrt(w) of the eigenvectors with w > D eps w_max. A covariance of zeros has a factor of width 0.

    Args:
        cov: (D, D), a tensor or array.

    Returns:
        float64 on the CPU, (D, R), R the numerical rank.

    Raises:
        DataError: As `frechet_distance`.
    """
    symmetric = _checked(cov)
    rounding = len(symmetric) * torch.finfo(torch.float64).eps
    lower, info = torch.linalg.cholesky_ex(symmetric)
    if info == 0 and _smallest(lower) > 10 * rounding * float(symmetric.diagonal().max()):
        return cast(Tensor, lower)
    w, v = torch.linalg.eigh(symmetric)
    if w[0] < -INDEFINITE * w[-1]:
        what = f"a covariance has the eigenvalue {float(w[0]):.3g}, the largest is {float(w[-1]):.3g}"
        raise DataError(WHERE, what, "compute these statistics anew")
    kept = w > rounding * w[-1]
    return cast(Tensor, v[:, kept] * w[kept].sqrt())


class Factors:
    """`factor`, which remembers the last few covariances: those of references come again and again.

    Copies share what they remember.
    """

    def __init__(self) -> None:
        self._known: list[tuple[Tensor, Tensor]] = []

    def __call__(self, cov: Tensor) -> Tensor:
        for known, found in self._known:
            if torch.equal(known, cov):
                return found
        self._known = [*self._known[-1:], (cov, factor(cov))]
        return self._known[-1][1]

    def __deepcopy__(self, memo: dict[int, Any]) -> Factors:
        return self


def _smallest(lower: Tensor) -> float:
    """1 / |L^-1|_F^2, at most the smallest eigenvalue of L L^T; the smallest pivot may be far above it."""
    inverse = torch.linalg.solve_triangular(lower, torch.eye(len(lower), dtype=lower.dtype), upper=False)
    return 1 / float(inverse.square().sum())


def distance_from_factors(mean1: Any, factor1: Any, mean2: Any, factor2: Any) -> float:
    """`frechet_distance` for covariances S = A A^T whose factors are at hand.

    Args:
        mean1, mean2: (D,), tensors or arrays.
        factor1, factor2: (D, R1) and (D, R2), as `factor` gives them, or any others: the centred samples
            divided by sqrt(n - 1), transposed, are one.

    Raises:
        DataError: Something is not finite, or shapes differ.
    """
    m1, m2 = (_finite(mean, "a mean") for mean in (mean1, mean2))
    a1, a2 = (_finite(a, "a factor") for a in (factor1, factor2))
    if m1.ndim != 1 or m1.shape != m2.shape or any(a.ndim != 2 or len(a) != len(m1) for a in (a1, a2)):
        shapes = ", ".join(str(tuple(t.shape)) for t in (m1, a1, m2, a2))
        raise DataError(WHERE, f"shapes {shapes} do not belong together", "compare the same features of both")
    variance = a1.square().sum() + a2.square().sum()
    distance = float((m1 - m2).square().sum() + variance - 2 * _cross(a1, a2))
    if -NEGATIVE * float(variance) <= distance < 0:
        return 0.0
    if not 0 <= distance < float("inf"):
        raise DataError(WHERE, f"it came out as {distance:.6g}", "rescale the features: they exceed float64")
    return distance


def _cross(a1: Tensor, a2: Tensor) -> Tensor:
    """tr (S1 S2)^(1/2)."""
    if not a1.shape[1] or not a2.shape[1]:
        return torch.zeros((), dtype=torch.float64)
    return cast(Tensor, torch.linalg.svdvals(a1.T @ a2).sum())


def _finite(values: Any, what: str) -> Tensor:
    tensor = torch.as_tensor(values).detach().cpu().double()
    if not bool(torch.isfinite(tensor).all()):
        raise DataError(WHERE, f"{what} is not finite", "look at the features: they may be NaN or overflow")
    return tensor


def _checked(cov: Any) -> Tensor:
    """Finite, square, and symmetrised."""
    square = _finite(cov, "a covariance")
    if square.ndim != 2 or square.shape[0] != square.shape[1] or not len(square):
        raise DataError(WHERE, f"a covariance of shape {tuple(square.shape)}", "give a square matrix (D, D)")
    if float((square - square.T).abs().max()) > ASYMMETRY * float(square.abs().max()):
        raise DataError(WHERE, "a covariance is not symmetric", "compute these statistics anew")
    return (square + square.T) / 2
