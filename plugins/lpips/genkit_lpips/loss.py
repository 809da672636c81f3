"""LPIPS, one value per sample, with a gradient everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from genkit.data import PublicFile, files
from genkit.errors import DataError, PluginError, RecipeError
from genkit.kernel import registry
from genkit.kinds import At, Context, LossFunction, Setup, setting, slot
from genkit_lpips.trunk import VGG16, Trunk, Vgg16, heads, random_weights

EPS = 1e-8
OF_VGG16 = ("weights", "pooling", "resize", "precision")


@attrs.frozen(kw_only=True)
class Lpips:
    """Learned perceptual distance of a frozen network's features, by default VGG16's.

    The trunk is VGG16 with the published heads, or other features that have stages, which are weighed alike:
    `efficientnet-lite0`, or `classifier`, which learnt the data at hand. On a CPU VGG16 costs a second an image, these
    some thousandths.

    Source: Zhang et al. 2018 (arXiv 1801.03924), eq. 1; as `karras_diffusion.py` of consistency models' PyTorch
    code uses it (average pooling); their JAX code and the `lpips` package have maximum pooling.
    """

    # A default that equals what recipes were silent about leaves the ids of their runs as they were.
    trunk: Any = attrs.field(
        default=Vgg16(),
        metadata=slot("features", "vgg16", "whose stages are compared; all else here is of vgg16").metadata,
    )
    weights: Path | None = setting(None, "VGG16's weights; found or downloaded if not given")
    pooling: str = setting("average", "average or max", check=attrs.validators.in_(("average", "max")))
    resize: int = setting(224, "side that images below 256 are resized to; 0: none", check=attrs.validators.ge(0))
    precision: str = setting(
        "bf16", "of the convolutions: bf16 or float32", check=attrs.validators.in_(("bf16", "float32"))
    )

    def __attrs_post_init__(self) -> None:
        usual = {field.name: field.default for field in attrs.fields(Lpips)}
        changed = [name for name in OF_VGG16 if getattr(self, name) != usual[name]]
        if changed and not self._calibrated:
            raise ValueError(f"{', '.join(changed)}: of the trunk vgg16 alone; leave it out beside another trunk")

    @property
    def _calibrated(self) -> bool:
        return isinstance(self.trunk, Vgg16)

    def absent(self) -> PublicFile | None:
        """The file that a run would download."""
        return None if not self._calibrated or self.weights or files.present(VGG16) else VGG16

    def stand_in(self, folder: Path) -> Lpips:
        """Itself; with random weights, just as costly, where the published ones would be downloaded."""
        return attrs.evolve(self, weights=random_weights(folder)) if self.absent() else self

    def affordable(self, context: Context) -> dict[str, Any] | None:
        """A trunk that costs a hundredth, where it is not there already: a network of the data, if they have labels."""
        if not self._calibrated:
            return None
        return {"trunk": "classifier" if _labelled(context) else "efficientnet-lite0"}

    def build(self, context: Context) -> LossFunction:
        """The metric, on the context's device.

        Raises:
            RecipeError: Samples are neither grey nor RGB, or the trunk has no stages.
            DataError: The trunk's weights are not to be had; says what is missing, and how to get it.
        """
        if not context.training:
            return _untold
        if not self._calibrated:
            return Perceptual(stages=_stages(self.trunk, context))
        if context.spec.channels not in (1, 3):
            raise RecipeError("loss lpips", f"samples have {context.spec.channels} channels", "it compares 1 or 3")
        return Perceptual(
            stages=Trunk.of(context, self.weights, self.pooling, self.resize).stages,
            heads=[head.to(context.device) for head in heads()],
            dtype=torch.bfloat16 if self.precision == "bf16" else torch.float32,
        )


@attrs.frozen(kw_only=True, eq=False)
class Perceptual:
    """d(x, y) = sum over depths l of mean over places of w_l . (u_l(x) - u_l(y))^2, u = h / sqrt(|h|^2 + eps).

    h_l are the trunk's features, |.| runs over channels, w_l is 1 without heads. eps stands inside the root: behind
    it, as published packages have it, an all-zero feature vector has a gradient of NaN. Features may be computed in
    bfloat16; their differences, which cancel its eight bits, are float32.

    It is no module, so that a program that holds it neither trains nor saves its weights.
    """

    stages: Callable[[Tensor], list[Tensor]]
    heads: Sequence[Tensor] = ()
    dtype: torch.dtype = torch.float32

    def __call__(self, x: Tensor, y: Tensor, at: At | None = None) -> Tensor:
        """(B, C, H, W), (B, C, H, W) in [-1, 1] -> (B,), float32."""
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            of_x, of_y = self.stages(x), self.stages(y)
        total = torch.zeros(len(x), device=x.device)
        for i, (a, b) in enumerate(zip(of_x, of_y, strict=True)):
            square = (_unit(a) - _unit(b)).square()
            total = total + (square * self.heads[i] if self.heads else square).sum(1).mean((1, 2))
        return total


def _labelled(context: Context) -> bool:
    """Whether a classifier can learn the data."""
    dataset = context.dataset
    if dataset is None or "labels" not in attrs.fields_dict(type(dataset)):
        return False
    setup = Setup(cache_dir=context.cache_dir, folder=context.folder)
    try:
        return bool(registry.build(attrs.evolve(dataset, labels=True), setup).spec.classes)
    except DataError:
        return False


def _stages(trunk: Any, context: Context) -> Callable[[Tensor], list[Tensor]]:
    built = registry.build(trunk, context)
    if not hasattr(built, "stages"):
        name = registry.info_of(trunk).name
        raise RecipeError(
            "loss lpips", f"the features {name} have no stages", "choose vgg16, classifier, efficientnet-lite0"
        )
    found: Callable[[Tensor], list[Tensor]] = built.stages
    return found


def _untold(x: Tensor, y: Tensor, at: At | None = None) -> Tensor:
    raise PluginError("loss lpips", "was built for sampling, without its weights", "build it with training = True")


def _unit(h: Tensor) -> Tensor:
    h = h.float()
    return h * (h.square().sum(1, keepdim=True) + EPS).rsqrt()
