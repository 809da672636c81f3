"""Features of Inception-v3, which FID, sFID, KID and the inception score look at."""

from __future__ import annotations

import sys
from pathlib import Path

import attrs
import torch
from torch import Tensor

from genkit.data import PublicFile, files, locate
from genkit.kinds import Context, Spec, setting
from genkit.training import processes
from genkit_metrics.features import float32, require_channels, require_images
from genkit_metrics.inception_net import Network, resized

AT_ONCE = 64  # images in one pass: the first layers need 11 MB for each

WEIGHTS = PublicFile(
    name="weights-inception-2015-12-05-6726825d.pth",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    size=95_628_359,
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    about="Inception-v3 of 2015-12-05, the network of FID, sFID, KID and IS; Apache-2.0.",
)


@attrs.frozen(kw_only=True)
class Inception:
    """Inception-v3 of 2015, the network of FID: pool (2,048), spatial (2,023) and logits (1,008, unbiased).

    Images of any size are resized as TensorFlow 1 does it, and scaled to (x - 128) / 128; float32 throughout,
    on graphics cards too. Grey images are repeated to three channels, with a line that says so.

    Features:
        pool: The last layer before the classes, for FID and KID.
        spatial: The first 7 channels of Mixed_6d.branch1x1 at 17 x 17 places, for sFID.
        logits: Of 1,008 classes, without their bias, for the inception score.

    Source: Heusel et al. 2017 (arXiv 1706.08500); sFID: Nash et al. 2021 (arXiv 2103.03841), section 5.1.
    """

    weights: Path | None = setting(None, "the published file; found or downloaded if not given", identity=False)

    def absent(self) -> PublicFile | None:
        """The file that a run would download."""
        return None if self.weights or files.present(WEIGHTS) else WEIGHTS

    def require(self, context: Context) -> None:
        """Find the weights.

        Raises:
            DataError: They are not to be had, or images have 2, or more than 3, channels.
        """
        require_channels(context.spec, "inception")
        locate(WEIGHTS, self.weights or "", context.cache_dir)

    def build(self, context: Context) -> Extractor:
        require_channels(context.spec, "inception")
        state = torch.load(locate(WEIGHTS, self.weights or "", context.cache_dir), weights_only=True)
        if context.spec.channels == 1 and processes.rank() == 0:
            print("genkit: inception: the images are grey, and are repeated to three channels", file=sys.stderr)
        return Extractor(state, context.spec, WEIGHTS.sha256, context.device)


class Extractor:
    """uint8 images to features; `identity` is the hash of the weights."""

    def __init__(self, state: dict[str, Tensor], spec: Spec, identity: str, device: str = "cpu") -> None:
        with torch.device("meta"):
            self.network = Network()
        self.network.load_state_dict(state, assign=True)
        self.network.to(device).eval().requires_grad_(False)
        self.spec, self.identity, self.device = spec, identity, device

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Raises DataError for images that are not uint8, or not of the size that the data have."""
        require_images(images, "inception", self.spec)
        with float32(self.device):
            parts = [self._pass(part) for part in images.split(AT_ONCE)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _pass(self, images: Tensor) -> dict[str, Tensor]:
        x = images.to(self.device).float()
        features: dict[str, Tensor] = self.network((resized(x.expand(-1, 3, -1, -1)) - 128) / 128)
        return features
