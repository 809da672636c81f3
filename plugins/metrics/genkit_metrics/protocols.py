"""How published figures were made: the quantiser is part of it, since a truncating one darkens half of all pixels."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from genkit.data import quantise


@attrs.frozen(kw_only=True)
class EdmFid:
    """EDM's FID: rounds to nearest, 50,000 samples, three times; any size.

    x 127.5 + 128, clipped to 0 … 255, fraction dropped: half-way cases go up. Published is the least of
    three figures, of the seeds 0 … 49,999, 50,000 … 99,999 and so on, against all training images without
    mirrored ones; covariances over n - 1.

    Source: Karras et al. 2022 (arXiv 2206.00364), appendix F.1; `generate.py` and `fid.py` of their code.
    """

    samples = 50_000
    seeds = 3
    shape = None

    def quantise(self, x0: Tensor) -> Tensor:
        return quantise(x0)


@attrs.frozen(kw_only=True)
class CmCifar10:
    """Consistency models' FID on CIFAR-10: drops the fraction, 50,000 samples, once.

    s = (x + 1) / 2, then 255 s clipped to 0 … 255, fraction dropped: on average half a level darker than
    EDM's. Against the 50,000 training images; covariances over n - 1.

    Source: Song et al. 2023 (arXiv 2303.01469); `evaluate` in their JAX code.
    """

    samples = 50_000
    seeds = 1
    shape = (3, 32, 32)

    def quantise(self, x0: Tensor) -> Tensor:
        return (255 * ((x0.float() + 1) / 2)).clip(0, 255).to(torch.uint8)


@attrs.frozen(kw_only=True)
class AdmImagenet64:
    """ADM's figures on ImageNet 64x64: drops the fraction, 50,000 samples, once.

    (x + 1) 127.5, clipped to 0 … 255, fraction dropped. FID and sFID against all training images,
    precision and recall (k = 3) against the 10,000 images of their reference batch.

    Source: Dhariwal & Nichol 2021 (arXiv 2105.05233); `image_sample.py` and `evaluator.py` of their code.
    """

    samples = 50_000
    seeds = 1
    shape = (3, 64, 64)

    def quantise(self, x0: Tensor) -> Tensor:
        return ((x0.float() + 1) * 127.5).clip(0, 255).to(torch.uint8)
