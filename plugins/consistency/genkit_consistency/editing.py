"""Zero-shot editing: a consistency model fills in what a linear measurement of an image does not tell.

An edit is an orthogonal transform A and a mask Omega that is 1 where A x is unknown. The known part of y,
A^-1[(A y)(1 - Omega)], is kept exactly, and the rest is sampled as `Multistep` samples.

Source: Song et al. 2023 (arXiv 2303.01469), algorithm 4 and appendix D, and the published code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from genkit.errors import DataError
from genkit.levels import Levels

LUMA = (0.2989, 0.5870, 0.1140)


@attrs.frozen(kw_only=True, eq=False)
class Edit:
    """A linear measurement of images.

    Attributes:
        forward, inverse: A and A^-1 on (B, C, H, W); A may change the shape behind B.
        unknown: Omega, bool, broadcastable to A x: what is to be filled in.
    """

    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]
    unknown: Tensor

    def known(self, y: Tensor) -> Tensor:
        """A^-1[(A y)(1 - Omega)]: what is left of y."""
        return self.fill(y, torch.zeros_like(y))

    def fill(self, y: Tensor, x: Tensor) -> Tensor:
        """A^-1[(A y)(1 - Omega) + (A x) Omega]: the known part of y, the rest of x."""
        unknown = self.unknown.to(y.device)
        return self.inverse(torch.where(unknown, self.forward(x), self.forward(y)))


def inpainting(mask: Tensor) -> Edit:
    """A = I; fill in where `mask` (bool, broadcastable to (B, C, H, W)) is true.

    Raises:
        DataError: The mask leaves nothing to fill in, or nothing to go by.
    """
    if not mask.any() or mask.all():
        what = "covers all of the image" if mask.all() and mask.numel() else "is empty: nothing is to be filled in"
        raise DataError("mask", what, "white is what shall be filled in, black what is kept")
    return Edit(forward=lambda x: x, inverse=lambda x: x, unknown=mask)


def basis(first: Sequence[float], dtype: torch.dtype = torch.float64) -> Tensor:
    """An orthogonal matrix (n, n) whose first column is proportional to `first`, of positive sum.

    The others are those of the QR decomposition of the identity with its first column replaced.
    """
    matrix = torch.eye(len(first), dtype=torch.float64)
    matrix[:, 0] = torch.tensor(first, dtype=torch.float64) / math.hypot(*first)
    q = torch.linalg.qr(matrix).Q
    return (q * q[:, 0].sum().sign()).to(dtype)


def colorization() -> Edit:
    """A turns red, green and blue into brightness and two others; fill in the two others."""

    def turn(x: Tensor, matrix: Tensor) -> Tensor:
        return torch.einsum("bchw,cd->bdhw", x, matrix.to(x))

    q = basis(LUMA)
    unknown = torch.tensor([False, True, True]).reshape(3, 1, 1)
    return Edit(forward=lambda x: turn(x, q), inverse=lambda x: turn(x, q.T), unknown=unknown)


def superresolution(patch: int) -> Edit:
    """A turns each patch of patch x patch pixels into its mean (times patch) and others; fill in the others."""

    def forward(x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        cut = x.reshape(b, c, h // patch, patch, w // patch, patch).permute(0, 1, 2, 4, 3, 5)
        return cut.flatten(4) @ q.to(x)

    def inverse(x: Tensor) -> Tensor:
        b, c, rows, columns, _ = x.shape
        cut = (x @ q.T.to(x)).reshape(b, c, rows, columns, patch, patch).permute(0, 1, 2, 4, 3, 5)
        return cut.reshape(b, c, rows * patch, columns * patch)

    q = basis([1.0] * patch**2)
    return Edit(forward=forward, inverse=inverse, unknown=torch.arange(patch**2) > 0)


@torch.no_grad()
def fill_in(
    denoiser: Callable[..., Tensor],
    y: Tensor,
    edit: Edit,
    draw: Callable[[int], Tensor],
    cond: Mapping[str, Tensor],
    descent: Sequence[float],
    sigma_min: float,
) -> Tensor:
    """Samples that agree with y in its known part.

    x ~ N(y, t_1^2), then for each level t: x = f(x, t), clipped to [-1, 1] as in the published code, with the
    known part of y put back; and noise again, up to the next level.

    Args:
        y: Images (B, C, H, W) in [-1, 1]; of the unknown part nothing is used.
        draw: The j-th unit normal, shaped as y.
        descent: Levels, falling; `levels.sigmas(40).flip(0)[:-1]` is the published choice.
    """
    y = edit.known(y)
    x, start = y, 0.0
    for j, t in enumerate(descent):
        x = x + math.sqrt(t * t - start * start) * draw(j)
        x = denoiser(x, torch.full((len(x),), t, device=x.device), cond)
        x, start = edit.fill(y, x.clamp(-1, 1)), sigma_min
    return x


def descending(levels: Levels, steps: int) -> list[float]:
    """The levels of `steps` network calls, from sigma_max down the Karras grid, without sigma_min."""
    found: list[float] = levels.sigmas(steps + 1).flip(0)[:-1].tolist()
    return found


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Spherical interpolation sin((1 - s) psi) / sin(psi) a + sin(s psi) / sin(psi) b, psi the angle between them.

    Args:
        a, b: One sample each, (C, H, W).
        share: s, (B,).

    Returns:
        (B, C, H, W); straight lines where a and b are parallel.
    """
    cosine = F.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0).clamp(-1, 1)
    psi, s = cosine.acos(), share.double().reshape(-1, 1, 1, 1)
    if psi.sin() < 1e-6:
        return ((1 - s) * a + s * b).to(a.dtype)
    return (((1 - s) * psi).sin() / psi.sin() * a + (s * psi).sin() / psi.sin() * b).to(a.dtype)


@torch.no_grad()
def interpolate(
    denoiser: Callable[..., Tensor], a: Tensor, b: Tensor, share: Tensor, t: float, cond: Mapping[str, Tensor]
) -> Tensor:
    """f(slerp(a, b, s), t): what lies between two noisy samples a and b (C, H, W) at level t.

    With a and b drawn from N(0, sigma_max^2) these are samples between two samples.
    """
    x = slerp(a, b, share)
    return denoiser(x, torch.full((len(x),), t, device=x.device), cond)
