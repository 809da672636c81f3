"""The published trunk of LPIPS: VGG16's convolutions, frozen, and a linear head for each of five depths."""

from __future__ import annotations

from importlib import util
from pathlib import Path

import attrs
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models import vgg

from genkit.data import PublicFile, files, locate, sha256
from genkit.errors import DataError, PluginError
from genkit.kinds import Context

VGG16 = PublicFile(
    name="vgg16-397923af.pth",
    sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    size=553_433_881,
    url="https://download.pytorch.org/models/vgg16-397923af.pth",
    about="VGG16 of torchvision, trained on ImageNet (BSD-3-Clause)",
)
HEADS_SHA256 = "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"
HEADS = {"torchmetrics": "functional/image/lpips_models/vgg.pth", "lpips": "weights/v0.1/vgg.pth"}
ENDS = (3, 8, 15, 22, 29)  # relu1_2, relu2_2, relu3_3, relu4_3, relu5_3
WIDTHS = (64, 128, 256, 512, 512)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, images in [0, 1]
NATIVE = 256  # images of at least this side are compared as they are


@attrs.frozen(kw_only=True)
class Vgg16:
    """VGG16, which learnt ImageNet, the trunk of LPIPS: pool (512).

    Pool is the mean over places of the last convolution. Images below 256 pixels are resized to 224, and pooled by
    averages, as consistency models' PyTorch code did.

    Source: Simonyan & Zisserman 2014 (arXiv 1409.1556); torchvision's weights.
    """

    def absent(self) -> PublicFile | None:
        """The file that a run would download."""
        return None if files.present(VGG16) else VGG16

    def build(self, context: Context) -> Trunk:
        """Raises DataError where the weights are not to be had."""
        return Trunk.of(context)


@attrs.frozen(kw_only=True, eq=False)
class Trunk:
    """VGG16 in five parts, and how images are shown to it."""

    parts: list[nn.Sequential]
    mean: Tensor
    std: Tensor
    resize: int
    identity: str = VGG16.sha256

    @classmethod
    def of(cls, context: Context, weights: Path | None = None, pooling: str = "average", resize: int = 224) -> Trunk:
        mean, std = (torch.tensor(each, device=context.device).reshape(1, 3, 1, 1) for each in (MEAN, STD))
        parts = [part.to(context.device) for part in convolutions(weights, context.cache_dir, pooling)]
        return cls(parts=parts, mean=mean, std=std, resize=resize)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 (B, C, H, W) -> {"pool": (B, 512)}."""
        return {"pool": self.stages(images.to(self.mean.device).float() / 127.5 - 1)[-1].mean((2, 3))}

    def stages(self, x: Tensor) -> list[Tensor]:
        """Features of (x + 1) / 2, normalised as ImageNet, at five depths: (B, C_l, H_l, W_l) each."""
        x = x.float().expand(-1, 3, -1, -1)
        if self.resize and min(x.shape[-2:]) < NATIVE:
            x = interpolate(x, size=self.resize, mode="bilinear", align_corners=False)
        h = (((x + 1) / 2 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        found = []
        for part in self.parts:
            h = part(h)
            found.append(h)
        return found


def convolutions(weights: Path | None, cache_dir: Path | None, pooling: str) -> list[nn.Sequential]:
    """VGG16's convolutions as five parts, each ending where LPIPS looks; frozen, channels last.

    Args:
        weights: A state dict of torchvision's VGG16 or of its `features`; located if None.
        pooling: "average" or "max".

    Raises:
        DataError: There is no such file, or it holds something else.
    """
    path = weights or locate(VGG16, cache_dir=cache_dir)
    layers = vgg.make_layers(vgg.cfgs["D"])
    found = {name.removeprefix("features."): tensor for name, tensor in _tensors(path).items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in layers.state_dict().items()}
    for name, shape in wanted.items():
        there = tuple(found[name].shape) if name in found else "nothing"
        if there != shape:
            raise DataError(path, f"has {there} for features.{name}, VGG16 has {shape}", "give torchvision's VGG16")
    layers.load_state_dict({name: found[name].float() for name in wanted})
    if pooling == "average":
        layers = nn.Sequential(*(nn.AvgPool2d(2) if isinstance(part, nn.MaxPool2d) else part for part in layers))
    for part in layers:
        if isinstance(part, nn.ReLU):
            part.inplace = False  # its input is what a graph keeps
    layers = layers.requires_grad_(False).eval().to(memory_format=torch.channels_last)
    return [layers[start : end + 1] for start, end in zip((0, *(e + 1 for e in ENDS)), ENDS, strict=False)]


def random_weights(folder: Path) -> Path:
    """A file of random weights, by which a step can be timed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(vgg.make_layers(vgg.cfgs["D"]).state_dict(), folder / "random.pth")
    return folder / "random.pth"


def heads() -> list[Tensor]:
    """The weights of LPIPS' linear layers, version 0.1 for VGG16, (1, C, 1, 1) each.

    Raises:
        PluginError: No installed package has them, or they are others than the published ones.
    """
    for package, inside in HEADS.items():
        spec = util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            if (path := Path(folder) / inside).is_file() and sha256(path) == HEADS_SHA256:
                found = _tensors(path)
                return [found[f"lin{i}.model.1.weight"] for i in range(len(WIDTHS))]
    raise PluginError(
        "loss lpips", f"its linear heads (sha256 {HEADS_SHA256}) are in no installed package", "install torchmetrics"
    )


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DataError(path, "no such file", "check loss.weights") from error
    except Exception as error:  # torch raises what its readers meet in a damaged file
        raise DataError(path, f"cannot be read ({' '.join(str(error).split())[:120]})", "get it again") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise DataError(path, "is no state dict", "give torchvision's VGG16")
    return found
