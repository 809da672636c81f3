"""A vision transformer as DINOv2 and CLIP have it, whose sizes are those of the weights that it is given."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from genkit.errors import DataError

HEAD = 64  # channels of a head of attention, in all sizes of both
State = dict[str, Tensor]


class Transformer(nn.Module):
    """(B, 3, H, W) to (B, D), the class token after the last normalisation; parameters are named as in DINOv2's files.

    Args:
        state: Tells the sizes: `patch_embed.proj`, `pos_embed` (1, 1 + places, D), `blocks.0.mlp.fc1` and so on.
        eps: Of the normalisations.
        activation: Within the blocks.
    """

    def __init__(self, state: State, eps: float, activation: Callable[[Tensor], Tensor] = F.gelu) -> None:
        super().__init__()
        width, _, self.patch, _ = state["patch_embed.proj.weight"].shape
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(state["pos_embed"].shape))
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(3, width, self.patch, self.patch, bias="patch_embed.proj.bias" in state)}
        )
        self.norm_pre = nn.LayerNorm(width, eps) if "norm_pre.weight" in state else nn.Identity()
        hidden, scaled = len(state["blocks.0.mlp.fc1.weight"]), "blocks.0.ls1.gamma" in state
        depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
        self.blocks = nn.ModuleList(Block(width, hidden, scaled, eps, activation) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patch_embed["proj"](x)
        h = torch.cat((self.cls_token.expand(len(x), -1, -1), h.flatten(2).mT), 1) + self._positions(*h.shape[-2:])
        h = self.norm_pre(h)
        for block in self.blocks:
            h = block(h)
        found: Tensor = self.norm(h[:, 0])
        return found

    def _positions(self, height: int, width: int) -> Tensor:
        """Of height x width places: those that were learnt, resized as DINOv2's code does, by (side + 0.1) / side."""
        side = math.isqrt(self.pos_embed.shape[1] - 1)
        if (height, width) == (side, side):
            return self.pos_embed
        token, places = self.pos_embed[:, :1], self.pos_embed[:, 1:].mT.unflatten(2, (side, side))
        scale = ((height + 0.1) / side, (width + 0.1) / side)
        return torch.cat((token, F.interpolate(places, scale_factor=scale, mode="bicubic").flatten(2).mT), 1)


class Block(nn.Module):
    """h + attention(norm h), then h + mlp(norm h), each scaled by channel in DINOv2."""

    def __init__(
        self, width: int, hidden: int, scaled: bool, eps: float, activation: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})
        self.ls1, self.ls2 = (Scale(width), Scale(width)) if scaled else (nn.Identity(), nn.Identity())
        self.activation = activation

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self.attn["qkv"](self.norm1(h)).unflatten(2, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        h = h + self.ls1(self.attn["proj"](attended))
        added: Tensor = h + self.ls2(self.mlp["fc2"](self.activation(self.mlp["fc1"](self.norm2(h)))))
        return added


class Scale(nn.Module):
    """A factor for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, h: Tensor) -> Tensor:
        return h * self.gamma


def read(path: Path) -> State:
    """The tensors of a file of safetensors, or of torch's that holds nothing else.

    Raises:
        DataError: There is no such file, or it holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DataError(path, "no such file", "check weights") from error
    except Exception as error:  # both raise what their readers meet in a damaged file
        raise DataError(path, f"cannot be read ({' '.join(str(error).split())[:120]})", "get it again") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise DataError(path, "is no state dict", "give the published file")
    return found


def made(state: State, path: Path, eps: float, activation: Callable[[Tensor], Tensor] = F.gelu) -> Transformer:
    """A frozen transformer with these weights.

    Raises:
        DataError: They are another network's.
    """
    try:
        with torch.device("meta"):
            network = Transformer(state, eps, activation)
        network.load_state_dict(state, assign=True)
    except (KeyError, RuntimeError, ValueError) as error:
        what = " ".join(str(error).split())[:160]
        raise DataError(path, f"has other tensors than this network ({what})", "give the published file") from error
    return network.float().eval().requires_grad_(False)
