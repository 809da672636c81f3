"""Halving and doubling resolution with a separable filter, each in one pass over the channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genkit_unets.blocks import Style, conv


class Resample(nn.Module):
    """Filters each channel with taps x taps and halves (`up`: doubles) height and width.

    The filter's sum is 1; on the way up 4, since three of four samples that it sees are zeros. Outside the
    picture there are zeros. (1, 1) is the mean of 2x2 pixels, upwards the repetition of each.

    Args:
        taps: An even number of them, such as (1, 1) or (1, 3, 3, 1); their scale does not count.
        padded: Whether zeros surround the samples; without, they have margins to lose, `len(taps) // 2 - 1`
            wide.

    Source: Zhang 2019 (arXiv 1904.11486), section 3; in U-Nets, Song et al. 2021 (arXiv 2011.13456), appendix H.
    """

    kernel: Tensor

    def __init__(self, taps: Sequence[float], up: bool = False, padded: bool = True) -> None:
        super().__init__()
        line = torch.tensor(taps, dtype=torch.float32)
        line = line / line.sum() * (2 if up else 1)
        self.register_buffer("kernel", torch.outer(line, line)[None, None], persistent=False)  # from settings
        self.padding, self.up = (len(taps) // 2 - 1) * padded, up

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        resample = F.conv_transpose2d if self.up else F.conv2d
        kernel = self.kernel.to(x.dtype).expand(channels, -1, -1, -1)
        return resample(x, kernel, stride=2, padding=self.padding, groups=channels)


class Shrink(nn.Module):
    """A 3x3 convolution at full resolution that is filtered and halved afterwards.

    Zeros surround the samples, not the convolution's output, so that the filter meets no edge.
    """

    def __init__(self, channels: int, out: int, taps: Sequence[float], style: Style) -> None:
        super().__init__()
        self.conv = conv(channels, out, style=style)
        self.conv.padding = (len(taps) // 2, len(taps) // 2)
        self.resample = Resample(taps, padded=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.resample(self.conv(x))
