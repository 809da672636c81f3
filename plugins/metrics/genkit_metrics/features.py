"""Features: what metrics see of an image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import torch
from torch import Tensor

from genkit.errors import DataError
from genkit.kinds import Context, Sampled, Spec, names

Features = Callable[[Tensor], dict[str, Tensor]]
FEATURE = "which of the features, by name"


def pixels(images: Tensor) -> dict[str, Tensor]:
    """x / 127.5 - 1, flattened.

    Args:
        images: uint8 (B, C, H, W).

    Returns:
        {"pool": float32 (B, C H W), in [-1, 1]}.

    Raises:
        DataError: The images are not uint8.
    """
    require_images(images, "pixels")
    return {"pool": images.flatten(1).float() / 127.5 - 1}


@attrs.frozen(kw_only=True)
class Pixels:
    """The image itself, in [-1, 1]: x / 127.5 - 1, flattened.

    Good for small images and for tests; on natural images pixels say little about how they look.
    """

    def build(self, context: Context) -> Features:
        return pixels


def require_images(images: Tensor, where: str, spec: Spec | None = None) -> None:
    """Raises DataError for what is not uint8 (B, C, H, W), or of another shape than a spec's."""
    if images.dtype != torch.uint8 or images.ndim != 4:
        given = f"{images.dtype} of shape {tuple(images.shape)}"
        raise DataError(where, f"images are {given}", "give uint8 images (B, C, H, W)")
    if spec and tuple(images.shape[1:]) != spec.shape:
        sizes = ["x".join(map(str, shape)) for shape in (images.shape[1:], spec.shape)]
        raise DataError(where, f"images are {sizes[0]}, the data are {sizes[1]}", "compare images of one size")


def require_channels(spec: Spec, where: str) -> None:
    """Raises DataError for data that a network of photographs cannot look at."""
    if spec.channels not in (1, 3):
        raise DataError(where, f"images have {spec.channels} channels", "give grey or RGB images")


@contextlib.contextmanager
def float32(device: str) -> Iterator[None]:
    """Without TF32 and autocast, whatever a training has set: they change features by 1 %."""
    switches: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        with torch.autocast(torch.device(device).type, enabled=False):
            yield
    finally:
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision


def chosen(sampled: Sampled, feature: str) -> Tensor:
    """Raises DataError where there is no such feature."""
    if feature not in sampled.features:
        raise DataError("metric", f"no feature {feature!r}", f"set feature to one of: {names(sampled.features)}")
    return sampled.features[feature]


def figures_of(component: Any, *figures: str) -> tuple[str, ...]:
    """The names of figures that are known before there are data; none where features add something to them."""
    return () if hasattr(component, "label") else figures


def label_of(component: Any, context: Context) -> str:
    """What features that are made for some data alone add to the names of their figures."""
    return f"-{component.label(context)}" if hasattr(component, "label") else ""
