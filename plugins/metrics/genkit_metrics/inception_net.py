"""Inception-v3 of 2015, in the variant that the FID was defined with."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 299  # of the images that the network was trained on
SPATIAL = 7  # channels that sFID looks at: 17 x 17 x 7 = 2,023 numbers

# TensorFlow's mean leaves the padding out; the maximum in the last block is an oddity of this very graph.
POOLS = {
    "mean": functools.partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False),
    "max": functools.partial(F.max_pool2d, kernel_size=3, stride=1, padding=1),
    "halve": functools.partial(F.max_pool2d, kernel_size=3, stride=2),
}


class Layer(NamedTuple):
    """A convolution: channels out, kernel, stride."""

    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


class Conv(nn.Module):
    """Convolution without bias, batch normalisation, ReLU; by default padded to keep the size at stride 1."""

    def __init__(self, inputs: int, layer: Layer, pad: bool = True) -> None:
        super().__init__()
        padding = tuple(k // 2 for k in layer.kernel) if pad and layer.stride == 1 else 0
        self.conv = nn.Conv2d(inputs, layer.outputs, layer.kernel, layer.stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(layer.outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Mixed(nn.Module):
    """Branches beside each other, the last of them a pooling and, if `pooled`, a convolution to so many channels.

    A branch is layers in a row; a list at its end is two layers side by side.
    """

    def __init__(self, inputs: int, pool: str, pooled: int, **branches: tuple[Layer | list[Layer], ...]) -> None:
        super().__init__()
        self.pool, self.chains = POOLS[pool], []
        for name, layers in branches.items():
            chain, width = [], inputs
            for i, step in enumerate(layers, 1):
                label = f"{name}_{i}" if len(layers) > 1 else name
                sides = [(label, step)] if isinstance(step, Layer) else [(f"{label}a", step[0]), (f"{label}b", step[1])]
                for part, layer in sides:
                    self.add_module(part, Conv(width, layer))
                chain.append([part for part, _ in sides])
                width = layer.outputs
            self.chains.append(chain)
        self.branch_pool = Conv(inputs, Layer(pooled)) if pooled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for chain in self.chains:
            ends = [x]
            for sides in chain:
                ends = [getattr(self, part)(ends[0]) for part in sides]
            outputs += ends
        return torch.cat([*outputs, self.branch_pool(self.pool(x))], 1)


ROW, COLUMN = (1, 7), (7, 1)


def _a(inputs: int, pooled: int) -> Mixed:
    return Mixed(
        inputs,
        "mean",
        pooled,
        branch1x1=(Layer(64),),
        branch5x5=(Layer(48), Layer(64, (5, 5))),
        branch3x3dbl=(Layer(64), Layer(96, (3, 3)), Layer(96, (3, 3))),
    )


def _b(inputs: int) -> Mixed:
    return Mixed(
        inputs,
        "halve",
        0,
        branch3x3=(Layer(384, (3, 3), 2),),
        branch3x3dbl=(Layer(64), Layer(96, (3, 3)), Layer(96, (3, 3), 2)),
    )


def _c(inputs: int, c: int) -> Mixed:
    return Mixed(
        inputs,
        "mean",
        192,
        branch1x1=(Layer(192),),
        branch7x7=(Layer(c), Layer(c, ROW), Layer(192, COLUMN)),
        branch7x7dbl=(Layer(c), Layer(c, COLUMN), Layer(c, ROW), Layer(c, COLUMN), Layer(192, ROW)),
    )


def _d(inputs: int) -> Mixed:
    return Mixed(
        inputs,
        "halve",
        0,
        branch3x3=(Layer(192), Layer(320, (3, 3), 2)),
        branch7x7x3=(Layer(192), Layer(192, ROW), Layer(192, COLUMN), Layer(192, (3, 3), 2)),
    )


def _e(inputs: int, pool: str) -> Mixed:
    both = [Layer(384, (1, 3)), Layer(384, (3, 1))]
    return Mixed(
        inputs,
        pool,
        192,
        branch1x1=(Layer(320),),
        branch3x3=(Layer(384), both),
        branch3x3dbl=(Layer(448), Layer(384, (3, 3)), both),
    )


class Network(nn.Module):
    """The graph classify_image_graph_def.pb of 2015-12-05, under the names of its conversion to PyTorch.

    Its state has 566 tensors, as pytorch-fid and torch-fidelity publish them.

    Source: Szegedy et al. 2016 (arXiv 1512.00567), section 6.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, Layer(32, (3, 3), 2))
        self.Conv2d_2a_3x3 = Conv(32, Layer(32, (3, 3)), pad=False)
        self.Conv2d_2b_3x3 = Conv(32, Layer(64, (3, 3)))
        self.Conv2d_3b_1x1 = Conv(64, Layer(80))
        self.Conv2d_4a_3x3 = Conv(80, Layer(192, (3, 3)), pad=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _a(192, 32), _a(256, 64), _a(288, 64)
        self.Mixed_6a = _b(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (_c(768, c) for c in (128, 160, 160, 192))
        self.Mixed_7a = _d(768)
        self.Mixed_7b, self.Mixed_7c = _e(1280, "mean"), _e(2048, "max")
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Features of float32 images (B, 3, 299, 299) in [-1, 1)."""
        halve = POOLS["halve"]
        x = halve(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = self.Mixed_6c(self.Mixed_6b(x))
        spatial = self.Mixed_6d.branch1x1(x)[:, :SPATIAL].permute(0, 2, 3, 1).flatten(1)
        x = self.Mixed_6e(self.Mixed_6d(x))
        pool = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))
        return {"pool": pool, "spatial": spatial, "logits": pool @ self.fc.weight.T}


def resized(images: Tensor) -> Tensor:
    """Images of any size to 299 x 299 as TensorFlow 1 does it: bilinear on corners, not on centres of pixels.

    Output pixel i lies at i H / 299 of H pixels, between its two neighbours; the last one stays beyond the edge.
    As that is linear in rows and in columns, two small matrices do it.

    Args:
        images: float32 (B, C, H, W).

    Source: TensorFlow 1, `resize_bilinear` with align_corners and half_pixel_centers false.
    """
    height, width = images.shape[2:]
    rows, columns = (_between(n, images.device) for n in (height, width))
    return rows @ (images @ columns.T)


@functools.lru_cache(maxsize=8)
def _between(n: int, device: torch.device) -> Tensor:
    """Weights of n pixels in 299 between them: (299, n)."""
    at = torch.arange(SIDE, dtype=torch.float32) * torch.tensor(n / SIDE, dtype=torch.float32)
    below = at.long()
    weights = torch.zeros(SIDE, n)
    weights[torch.arange(SIDE), below] = 1 - (at - below)
    weights[torch.arange(SIDE), (below + 1).clamp(max=n - 1)] += at - below
    return weights.to(device)
