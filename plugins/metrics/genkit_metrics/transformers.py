"""Features of two transformers that papers look through, by weights in a file of one's own: DINOv2 and CLIP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from genkit.data import sha256
from genkit.errors import DataError
from genkit.kinds import Context, Spec, setting
from genkit_metrics.features import float32, require_channels, require_images
from genkit_metrics.vit import State, made, read

AT_ONCE = 32  # images in one pass


@attrs.frozen(kw_only=True)
class Dinov2:
    """DINOv2, which learnt 142 million pictures without labels: pool (1,024 for ViT-L/14), the class token.

    Images are resized to 224 pixels, bicubic with antialiasing in float32, and normalised as ImageNet. Papers that
    print a Fréchet distance of DINOv2 mean ViT-L/14, the file dinov2_vitl14_pretrain.pth; other sizes without
    registers are read, too. Grey images are repeated to three channels. Weights: Apache-2.0.

    Source: Oquab et al. 2023 (arXiv 2304.07193); as a metric: Stein et al. 2023 (arXiv 2306.04675), resized as EDM2's
    code does (arXiv 2312.02696).
    """

    weights: Path = setting(help="the published .pth of a ViT without registers", identity=False)

    def require(self, context: Context) -> None:
        """Raises DataError where the weights are not there or another network's, or images not grey or RGB."""
        self.build(context)

    def build(self, context: Context) -> Extractor:
        require_channels(context.spec, "dinov2")
        state = {name: tensor for name, tensor in read(self.weights).items() if name != "mask_token"}
        network = made(state, self.weights, 1e-6)

        def features(x: Tensor) -> Tensor:
            x = F.interpolate(x, size=224, mode="bicubic", antialias=True)
            return network(_normal(x, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

        return Extractor(features, network, context.spec, sha256(self.weights), "dinov2", context.device)


@attrs.frozen(kw_only=True)
class Clip:
    """CLIP's image embedding, of norm 1: pool (768 for ViT-L/14 at 336 pixels), what CMMD looks at.

    Images are resized to the network's size, bicubic without antialiasing, as CMMD's code does. Read are the weights
    of openai/clip-vit-large-patch14-336 as Hugging Face keeps them: model.safetensors or pytorch_model.bin. Grey
    images are repeated to three channels. Weights: MIT.

    Source: Radford et al. 2021 (arXiv 2103.00020); Jayasumana et al. 2023 (arXiv 2401.09603), section 4.
    """

    weights: Path = setting(help="model.safetensors or pytorch_model.bin", identity=False)

    def require(self, context: Context) -> None:
        """Raises DataError where the weights are not there or another network's, or images not grey or RGB."""
        self.build(context)

    def build(self, context: Context) -> Extractor:
        require_channels(context.spec, "clip")
        state, projection = renamed(read(self.weights), self.weights)
        network = made(state, self.weights, 1e-5, lambda h: h * torch.sigmoid(1.702 * h))
        projection = projection.float().to(context.device)
        side = network.patch * round((network.pos_embed.shape[1] - 1) ** 0.5)

        def features(x: Tensor) -> Tensor:
            x = F.interpolate(x, size=side, mode="bicubic")
            x = _normal(x, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
            return F.normalize(network(x) @ projection.T, dim=1)

        return Extractor(features, network, context.spec, sha256(self.weights), "clip", context.device)


class Extractor:
    """uint8 images to features; `identity` is the hash of the weights."""

    def __init__(
        self, features: Callable[[Tensor], Tensor], network: Any, spec: Spec, identity: str, name: str, device: str
    ) -> None:
        network.to(device)
        self.features, self.spec, self.identity, self.name, self.device = features, spec, identity, name, device

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Raises DataError for images that are not uint8, or not of the size that the data have."""
        require_images(images, self.name, self.spec)
        with float32(self.device):
            parts = [
                self.features(part.to(self.device).float().expand(-1, 3, -1, -1) / 255)
                for part in images.split(AT_ONCE)
            ]
        return {"pool": torch.cat(parts)}


def _normal(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    centre, scale = (torch.tensor(each, device=x.device).reshape(1, 3, 1, 1) for each in (mean, std))
    return (x - centre) / scale


TOP = {
    "embeddings.class_embedding": "cls_token",
    "embeddings.patch_embedding.weight": "patch_embed.proj.weight",
    "embeddings.position_embedding.weight": "pos_embed",
    "pre_layrnorm": "norm_pre",
    "post_layernorm": "norm",
}
WITHIN = {"layer_norm1": "norm1", "layer_norm2": "norm2", "self_attn.out_proj": "attn.proj", "mlp.": "mlp."}


def renamed(state: State, path: Path) -> tuple[State, Tensor]:
    """CLIP's vision tower by our names, and its projection (embedding, width).

    Raises:
        DataError: There is none.
    """
    vision = {
        name.removeprefix("vision_model."): tensor for name, tensor in state.items() if name.startswith("vision_model.")
    }
    if "visual_projection.weight" not in state or "embeddings.class_embedding" not in vision:
        raise DataError(path, "has no CLIP vision tower of Hugging Face's layout", "give clip-vit-large-patch14-336")
    found: State = {}
    for name, tensor in vision.items():
        for old, new in TOP.items():
            if name.startswith(old):
                found[name.replace(old, new)] = tensor
        layer, _, rest = name.removeprefix("encoder.layers.").partition(".")
        for old, new in WITHIN.items():
            if name.startswith("encoder.layers.") and rest.startswith(old):
                found[f"blocks.{layer}.{rest.replace(old, new)}"] = tensor
        if rest.startswith("self_attn.q_proj."):
            three = [vision[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            found[f"blocks.{layer}.attn.qkv.{rest.rpartition('.')[2]}"] = torch.cat(three)
    found["cls_token"] = found["cls_token"].reshape(1, 1, -1)
    found["pos_embed"] = found["pos_embed"][None]
    return found, state["visual_projection.weight"]
