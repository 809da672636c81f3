"""Training images moved at random, with numbers that tell the network how they were moved."""

from __future__ import annotations

import math
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from attrs.validators import deep_iterable, ge, in_, le
from torch import Tensor

from genkit.keys import Key
from genkit.kinds import Batch, Data, setting
from genkit.levels import expand

TRANSFORMS = ("x-flip", "y-flip", "scale", "rotation", "anisotropy", "translation")
NUMBERS = 9  # that tell how an image was moved


@attrs.frozen(kw_only=True)
class Augmented:
    """Settings of data sets whose training images can be moved at random."""

    augment: float = setting(
        0.0,
        "chance of each way in which training images are moved and the network told; EDM: 0.12",
        check=[ge(0), le(1)],
    )
    augment_by: tuple[str, ...] = setting(
        TRANSFORMS, f"the ways: {', '.join(TRANSFORMS)}", check=deep_iterable(in_(TRANSFORMS))
    )

    def augmented(self, data: Any) -> Data:
        """The data set, a `Resident` or a `Streamed`, with its training images moved where that is asked for."""
        if not self.augment:
            return data
        spec = attrs.evolve(data.spec, augment=NUMBERS)
        rest = data.held_out if data.held_out is None else attrs.evolve(data.held_out, spec=spec)
        return attrs.evolve(data, spec=spec, held_out=rest, augment=Moves(self.augment, self.augment_by))


@attrs.frozen
class Moves:
    """Images moved at random: (batch, key) -> the batch with `cond["augment"]`, (B, 9).

    About its centre, with y downwards, an image is mirrored (a0, a1), scaled by 2^(a2 / 5), turned by R(-a3),
    stretched by R(a4) diag(2^(a5 / 5), 2^(-a5 / 5)) R(-a4) and shifted by (a6 W, a7 H) / 8, in this order; a2, a5,
    a6 and a7 are unit normals, a3 and a4 uniform angles, a0 and a1 are 0 or 1. Each way comes with its chance, x-flip
    always, so that half of all images are mirrored. What does not come is 0, and the network is told
    (a0, a1, a2, cos a3 - 1, sin a3, a5 cos a4, a5 sin a4, a6, a7). As published, a stretch and the squeeze along the
    same line are told alike.

    Pixels are interpolated bicubically at twice the resolution, over an image that is reflected at its border, and
    averaged, where EDM filters by wavelets. An image that is only mirrored, or not moved, keeps its pixels.

    Source: Karras et al. 2022 (arXiv 2206.00364), appendix F.2 and its table of parameters; Karras et al. 2020
    (arXiv 2006.06676), for the transformations.
    """

    chance: float
    ways: tuple[str, ...] = TRANSFORMS

    def __call__(self, batch: Batch, key: Key) -> Batch:
        a = self.drawn(batch.x, key)
        zero, turn, along = torch.zeros_like(a[0]), a[3], a[4]
        told = [a[0], a[1], a[2], turn.cos() - 1, turn.sin(), a[5] * along.cos(), a[5] * along.sin(), a[6], a[7]]
        x = torch.where(expand(a[0] > 0, batch.x), batch.x.flip(-1), batch.x)
        x = torch.where(expand(a[1] > 0, x), x.flip(-2), x)
        still = torch.stack([a[i] == zero for i in (2, 3, 5, 6, 7)]).all(0)
        x = torch.where(expand(still, x), x, warped(x, back(a, x.shape[-1] / x.shape[-2])))
        return Batch(x, {**batch.cond, "augment": torch.stack(told, 1).float()})

    def drawn(self, x: Tensor, key: Key) -> list[Tensor]:
        """a0 to a7, (B,) each, float64."""
        normal = key.normal("augment", x.new_empty(len(x), 4)).double().unbind(1)

        def uniform(i: int) -> Tensor:
            return key.uniform("augment", len(x), x.device, i)

        def angle(i: int) -> Tensor:
            return math.pi * (2 * uniform(i) - 1)

        def comes(i: int) -> Tensor:
            chance = 0.0 if TRANSFORMS[i] not in self.ways else 1.0 if i == 0 else self.chance
            return (uniform(i) < chance).double()

        shifted = comes(5)
        return [
            comes(0) * (uniform(6) < 0.5),
            comes(1) * (uniform(7) < 0.5),
            comes(2) * normal[0],
            comes(3) * angle(8),
            angle(9),
            comes(4) * normal[1],
            shifted * normal[2],
            shifted * normal[3],
        ]


def rotation(angle: Tensor) -> Tensor:
    """R, (B, 2, 2)."""
    c, s = angle.cos(), angle.sin()
    return torch.stack([c, -s, s, c], 1).unflatten(1, (2, 2))


def back(a: list[Tensor], aspect: float) -> Tensor:
    """From where a pixel is to where it was, mirroring aside: (B, 2, 3), in halves of the image's sides.

    Args:
        aspect: Width over height.
    """
    stretch = torch.stack([-a[5], a[5]], 1) / 5
    matrix = (
        rotation(a[3] + a[4])
        @ torch.diag_embed(2**stretch)
        @ rotation(-a[4])
        * expand(2 ** (-a[2] / 5), stretch[:, None])
    )
    sides = torch.tensor([[1, 1 / aspect], [aspect, 1]], dtype=matrix.dtype, device=matrix.device)
    matrix = matrix * sides
    return torch.cat([matrix, -matrix @ torch.stack([a[6], a[7]], 1)[:, :, None] / 4], 2)


def warped(x: Tensor, matrix: Tensor) -> Tensor:
    """Images (B, C, H, W), each pixel taken from where the matrix (B, 2, 3) leads."""
    batch, channels, height, width = x.shape
    grid = F.affine_grid(matrix.to(x.dtype), [batch, channels, 2 * height, 2 * width], align_corners=False)
    fine = F.grid_sample(x, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return F.avg_pool2d(fine, 2)
