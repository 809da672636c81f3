"""Published weights in our names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from genkit.errors import GenkitError
from genkit_unets.blocks import Attention
from genkit_unets.edm_unet import EdmUNet, Place, decoder, encoder

# Modules of a stage, and what EDM and OpenAI call them.
_EDM = {
    "block.norm0": "norm0",
    "block.conv0": "conv0",
    "block.shift": "affine",
    "block.norm1": "norm1",
    "block.conv1": "conv1",
    "block.skip": "skip",
    "attention.norm": "norm2",
    "attention.qkv": "qkv",
    "attention.out": "proj",
}
_OPENAI = {
    "block.norm0": "in_layers.0",
    "block.conv0": "in_layers.2",
    "block.shift": "emb_layers.1",
    "block.norm1": "out_layers.0",
    "block.conv1": "out_layers.3",
    "block.skip": "skip_connection",
    "attention.norm": "norm",
    "attention.qkv": "qkv",
    "attention.out": "proj_out",
}
_HINT = "build the network with the weights' settings"


def from_edm(weights: Mapping[str, Tensor], network: EdmUNet) -> dict[str, Tensor]:
    """Weights of EDM's published networks (github.com/NVlabs/edm) as the state of a network of ours.

    `map_augment`, which EDM's training uses and its sampling does not, is left out for a network without augmentation:
    it has no bias, and a picture that was not augmented adds zeros.

    Args:
        weights: By their published names without the prefix `model.`.
        network: Built with the settings of the published one, by `ncsnpp`, `ddpmpp` or `adm`.

    Returns:
        What `network.load_state_dict` takes, on the CPU or wherever the weights are.

    Raises:
        GenkitError: A tensor is missing, of another shape, one too many, or a filter other than the setting's.
    """
    state, rest = _renamed(weights, network, _names(network), _changes(network))
    for name in sorted(rest - {"map_augment.weight"}):
        _filter(name, weights[name], network)
    return state


def from_openai(weights: Mapping[str, Tensor], network: EdmUNet) -> dict[str, Tensor]:
    """Weights of OpenAI's consistency models (github.com/openai/consistency_models) as the state of an `adm`.

    Their `UNetModel` with `resblock_updown` is EDM's ADM: the same blocks in the same order, attention after the
    blocks of its levels and in the middle, `num_head_channels` 64 as `channels_per_head`. It differs in two things:
    all norms have 32 groups, as ours have from 128 channels on; and it is told 1000 c_noise, so the network needs
    `positional_scale` 1000. Rows of qkv are ordered (which, head, channel), as ours are.

    Args:
        weights: By the names of `UNetModel`.
        network: Built by `adm` with the settings of the published one.

    Returns:
        What `network.load_state_dict` takes.

    Raises:
        GenkitError: A tensor is missing, of another shape or one too many, or the network is of another kind.
    """
    settings = network.settings
    if settings.plan.early or settings.positional_scale != 1000:
        what = f"{type(settings).__name__} with positional_scale {settings.positional_scale:g}"
        raise GenkitError("network", what, "OpenAI's is `adm` with positional_scale 1000")
    for name, module in network.named_modules():
        if isinstance(module, nn.GroupNorm) and module.num_groups != 32:
            what = f"has {module.num_groups} groups, OpenAI's 32"
            raise GenkitError(name, what, "these weights need 128 channels or more everywhere")
    state, rest = _renamed(weights, network, _names_openai(network), {})
    if rest:
        raise GenkitError(min(rest), "the network has no place for it", _HINT)
    return state


def _renamed(
    weights: Mapping[str, Tensor],
    network: EdmUNet,
    names: Mapping[str, str],
    changes: Mapping[str, Callable[[Tensor], Tensor]],
) -> tuple[dict[str, Tensor], set[str]]:
    """The network's state from weights of other names, and the weights that it has no place for."""
    state: dict[str, Tensor] = {}
    used = set()
    for name, mine in network.state_dict().items():
        module, _, leaf = name.rpartition(".")
        theirs = f"{names[module]}.{leaf}" if module in names else name
        if theirs not in weights:
            raise GenkitError(theirs, f"missing; it would be {name}", _HINT)
        given = weights[theirs]
        changed = changes.get(name, _same)(given) if given.ndim == mine.ndim else given
        if changed.shape != mine.shape:
            what = f"shape {tuple(given.shape)} does not suit {name}, {tuple(mine.shape)}"
            raise GenkitError(theirs, what, _HINT)
        state[name] = changed
        used.add(theirs)
    return state, set(weights) - used


def _names(network: EdmUNet) -> dict[str, str]:
    """EDM's name of each of our modules that has weights."""
    settings, heights = network.settings, [height for height, _ in network.sizes]
    early, top = settings.plan.early, f"{heights[0]}x{heights[0]}"
    names = {
        "conditioning.features": "map_noise",
        "conditioning.inner": "map_layer0",
        "conditioning.outer": "map_layer1",
        "conditioning.label": "map_label",
        "conditioning.augment": "map_augment",
        "stem": f"enc.{top}_conv",
        "norm": f"dec.{top}_aux_norm" if early else "out_norm",
        "out": f"dec.{top}_aux_conv" if early else "out_conv",
    }
    for ours, theirs, places in (("encoder", "enc", encoder), ("decoder", "dec", decoder)):
        for i, place in enumerate(places(settings, heights)):
            stage = f"{theirs}.{_place(place, heights)}"
            names.update({f"{ours}.{i}.{mine}": f"{stage}.{its}" for mine, its in _EDM.items()})
    for i, height in enumerate(heights[1:]):
        names[f"pictures.{i}.conv"] = f"enc.{height}x{height}_aux_residual"
    return names


def _names_openai(network: EdmUNet) -> dict[str, str]:
    """OpenAI's name of each of our modules that has weights."""
    settings, heights = network.settings, [height for height, _ in network.sizes]
    names = {
        "conditioning.inner": "time_embed.0",
        "conditioning.outer": "time_embed.2",
        "conditioning.label": "label_emb",
        "stem": "input_blocks.0.0",
        "norm": "out.0",
        "out": "out.2",
    }
    for i, _ in enumerate(encoder(settings, heights)):
        names.update(_stage_openai(f"encoder.{i}", f"input_blocks.{i + 1}", 0))
    group, inside = -1, 0  # output_blocks has a group for each skip; a block that doubles closes its level's last
    for i, place in enumerate(decoder(settings, heights)):
        if place.kind == "in":
            names.update(_stage_openai(f"decoder.{i}", "middle_block", 2 * place.number))
            continue
        group, inside = (group, inside) if place.kind == "up" else (group + 1, 0)
        names.update(_stage_openai(f"decoder.{i}", f"output_blocks.{group}", inside))
        inside += 1 + place.attention
    return names


def _stage_openai(ours: str, theirs: str, first: int) -> dict[str, str]:
    """Of a stage whose block is number `first` of their sequence, and its attention the next."""
    at = {"block": first, "attention": first + 1}
    return {f"{ours}.{mine}": f"{theirs}.{at[mine.partition('.')[0]]}.{its}" for mine, its in _OPENAI.items()}


def _place(place: Place, heights: list[int]) -> str:
    number = place.number if place.kind in ("block", "in") else ""
    return f"{heights[place.level]}x{heights[place.level]}_{place.kind}{number}"


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _changes(network: EdmUNet) -> dict[str, Callable[[Tensor], Tensor]]:
    """What is arranged differently: by our name, how to get ours from theirs."""
    changes: dict[str, Callable[[Tensor], Tensor]] = {"conditioning.label.weight": torch.t}
    if network.settings.plan.early:  # their embedding has sines first, ours cosines
        swap = _halves_swapped
        changes["conditioning.inner.weight"] = swap
        changes["conditioning.augment.weight"] = lambda w: swap(w.t()).t()
        changes["conditioning.label.weight"] = lambda w: swap(w.t())
        changes["conditioning.label.bias"] = swap
    for name, module in network.named_modules():
        if isinstance(module, Attention):
            for leaf in ("weight", "bias"):
                changes[f"{name}.qkv.{leaf}"] = _query_first(module.heads)
    return changes


def _halves_swapped(tensor: Tensor) -> Tensor:
    return torch.cat(tensor.chunk(2, -1)[::-1], -1)


def _query_first(heads: int) -> Callable[[Tensor], Tensor]:
    """Rows ordered (head, channel, which of q, k, v), to (which, head, channel)."""

    def change(tensor: Tensor) -> Tensor:
        if len(tensor) % (3 * heads):
            return tensor  # of a wrong shape, as the caller will tell
        return tensor.unflatten(0, (heads, -1, 3)).permute(2, 0, 1, *range(3, tensor.ndim + 2)).flatten(0, 2)

    return change


def _filter(name: str, kernel: Tensor, network: EdmUNet) -> None:
    """A tensor that has no place among our weights has to be the filter of the settings."""
    if not name.endswith(".resample_filter"):
        raise GenkitError(name, "the network has no place for it", _HINT)
    taps = torch.tensor(network.settings.resample_filter)
    own = torch.outer(taps, taps) / taps.sum().square()
    given = kernel.float().cpu().squeeze()
    if given.shape != own.shape or not torch.allclose(given, own):
        raise GenkitError(name, f"another filter than {list(taps.tolist())}", "set `resample_filter` accordingly")
