"""LPIPS, one value per sample, with a gradient everywhere."""

from __future__ import annotations

from pathlib import Path

import attrs
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from genkit.errors import PluginError, RecipeError
from genkit.kinds import At, Context, LossFunction, setting
from genkit_lpips.trunk import heads, trunk

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, images in [0, 1]
EPS = 1e-8
NATIVE = 256  # images of at least this side are compared as they are


@attrs.frozen(kw_only=True)
class Lpips:
    """Learned perceptual distance of VGG16's features, frozen weights.

    Source: Zhang et al. 2018 (arXiv 1801.03924), eq. 1; as `karras_diffusion.py` of consistency models' PyTorch
    code uses it (average pooling); their JAX code and the `lpips` package have maximum pooling.
    """

    weights: Path | None = setting(None, "VGG16's weights; found or downloaded if not given")
    pooling: str = setting("average", "average or max", check=attrs.validators.in_(("average", "max")))
    resize: int = setting(224, "side that images below 256 are resized to; 0: none", check=attrs.validators.ge(0))
    precision: str = setting(
        "bf16", "of the convolutions: bf16 or float32", check=attrs.validators.in_(("bf16", "float32"))
    )

    def build(self, context: Context) -> LossFunction:
        """The metric, on the context's device.

        Raises:
            RecipeError: Samples are neither grey nor RGB.
            DataError: VGG16's weights are not to be had; says which file, from where, and where to put it.
        """
        if not context.training:
            return _untold
        if context.spec.channels not in (1, 3):
            raise RecipeError("loss lpips", f"samples have {context.spec.channels} channels", "it compares 1 or 3")
        return Perceptual(
            parts=[part.to(context.device) for part in trunk(self.weights, context.cache_dir, self.pooling)],
            heads=[head.to(context.device) for head in heads()],
            mean=torch.tensor(MEAN, device=context.device).reshape(1, 3, 1, 1),
            std=torch.tensor(STD, device=context.device).reshape(1, 3, 1, 1),
            resize=self.resize,
            dtype=torch.bfloat16 if self.precision == "bf16" else torch.float32,
        )


@attrs.frozen(kw_only=True, eq=False)
class Perceptual:
    """d(x, y) = sum over depths l of mean over pixels of w_l . (u_l(x) - u_l(y))^2, u = h / sqrt(|h|^2 + eps).

    h_l are VGG16's features of (x + 1) / 2, normalised as ImageNet, |.| runs over channels. eps stands inside the
    root: behind it, as published packages have it, an all-zero feature vector has a gradient of NaN. Features may be
    computed in bfloat16; their differences, which cancel its eight bits, are float32.

    It is no module, so that a program that holds it neither trains nor saves its weights.
    """

    parts: list[nn.Sequential]
    heads: list[Tensor]
    mean: Tensor
    std: Tensor
    resize: int
    dtype: torch.dtype

    def __call__(self, x: Tensor, y: Tensor, at: At | None = None) -> Tensor:
        """(B, C, H, W), (B, C, H, W) in [-1, 1] -> (B,), float32; C is 1 or 3."""
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            of_x, of_y = self._features(x), self._features(y)
        total = torch.zeros(len(x), device=x.device)
        for head, a, b in zip(self.heads, of_x, of_y, strict=True):
            total = total + ((_unit(a) - _unit(b)).square() * head).sum(1).mean((1, 2))
        return total

    def _features(self, x: Tensor) -> list[Tensor]:
        x = x.float().expand(-1, 3, -1, -1)
        if self.resize and min(x.shape[-2:]) < NATIVE:
            x = interpolate(x, size=self.resize, mode="bilinear", align_corners=False)
        h = (((x + 1) / 2 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        found = []
        for part in self.parts:
            h = part(h)
            found.append(h)
        return found


def _untold(x: Tensor, y: Tensor, at: At | None = None) -> Tensor:
    raise PluginError("loss lpips", "was built for sampling, without its weights", "build it with training = True")


def _unit(h: Tensor) -> Tensor:
    h = h.float()
    return h * (h.square().sum(1, keepdim=True) + EPS).rsqrt()
