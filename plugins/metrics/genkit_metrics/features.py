"""Features: what metrics see of an image."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from genkit.errors import DataError
from genkit.kinds import Context

Features = Callable[[Tensor], dict[str, Tensor]]


def pixels(images: Tensor) -> dict[str, Tensor]:
    """x / 127.5 - 1, flattened.

    Args:
        images: uint8 (B, C, H, W).

    Returns:
        {"pool": float32 (B, C H W), in [-1, 1]}.

    Raises:
        DataError: The images are not uint8.
    """
    if images.dtype != torch.uint8 or images.ndim != 4:
        given = f"{images.dtype} of shape {tuple(images.shape)}"
        raise DataError("pixels", f"images are {given}", "give uint8 images (B, C, H, W)")
    return {"pool": images.flatten(1).float() / 127.5 - 1}


@attrs.frozen(kw_only=True)
class Pixels:
    """The image itself, in [-1, 1]: x / 127.5 - 1, flattened.

    Good for small images and for tests; on natural images pixels say little about how they look.
    """

    def build(self, context: Context) -> Features:
        return pixels
