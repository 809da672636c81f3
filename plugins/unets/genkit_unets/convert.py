"""Published weights in our names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from genkit.errors import GenkitError
from genkit_unets.blocks import Attention
from genkit_unets.edm_unet import EdmUNet, Place, decoder, encoder

# Modules of a stage, and what EDM calls them.
_STAGE = {
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


def from_edm(weights: Mapping[str, Tensor], network: EdmUNet) -> dict[str, Tensor]:
    """Weights of EDM's published networks (github.com/NVlabs/edm) as the state of a network of ours.

    `map_augment`, which EDM's training uses and its sampling does not, is left out: it has no bias, and a
    picture that was not augmented adds zeros.

    Args:
        weights: By their published names without the prefix `model.`.
        network: Built with the settings of the published one, by `ncsnpp`, `ddpmpp` or `adm`.

    Returns:
        What `network.load_state_dict` takes, on the CPU or wherever the weights are.

    Raises:
        GenkitError: A tensor is missing, of another shape, one too many, or a filter other than the setting's.
    """
    names = _names(network)
    changes = _changes(network)
    state: dict[str, Tensor] = {}
    for name, mine in network.state_dict().items():
        module, _, leaf = name.rpartition(".")
        theirs = f"{names[module]}.{leaf}" if module in names else name
        if theirs not in weights:
            raise GenkitError(theirs, f"missing; it would be {name}", "build the network with the weights' settings")
        given = weights[theirs]
        changed = changes.get(name, _same)(given) if given.ndim == mine.ndim else given
        if changed.shape != mine.shape:
            what = f"shape {tuple(given.shape)} does not suit {name}, {tuple(mine.shape)}"
            raise GenkitError(theirs, what, "build the network with the weights' settings")
        state[name] = changed
    used = {f"{names.get(m, m)}.{leaf}" for m, _, leaf in (name.rpartition(".") for name in state)}
    for name in sorted(set(weights) - used - {"map_augment.weight"}):
        _filter(name, weights[name], network)
    return state


def _names(network: EdmUNet) -> dict[str, str]:
    """EDM's name of each of our modules that has weights."""
    settings, heights = network.settings, [height for height, _ in network.sizes]
    early, top = settings.plan.early, f"{heights[0]}x{heights[0]}"
    names = {
        "conditioning.features": "map_noise",
        "conditioning.inner": "map_layer0",
        "conditioning.outer": "map_layer1",
        "conditioning.label": "map_label",
        "stem": f"enc.{top}_conv",
        "norm": f"dec.{top}_aux_norm" if early else "out_norm",
        "out": f"dec.{top}_aux_conv" if early else "out_conv",
    }
    for ours, theirs, places in (("encoder", "enc", encoder), ("decoder", "dec", decoder)):
        for i, place in enumerate(places(settings, heights)):
            stage = f"{theirs}.{_place(place, heights)}"
            names.update({f"{ours}.{i}.{mine}": f"{stage}.{its}" for mine, its in _STAGE.items()})
    for i, height in enumerate(heights[1:]):
        names[f"pictures.{i}.conv"] = f"enc.{height}x{height}_aux_residual"
    return names


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
        raise GenkitError(name, "the network has no place for it", "build the network with the weights' settings")
    taps = torch.tensor(network.settings.resample_filter)
    own = torch.outer(taps, taps) / taps.sum().square()
    given = kernel.float().cpu().squeeze()
    if given.shape != own.shape or not torch.allclose(given, own):
        raise GenkitError(name, f"another filter than {list(taps.tolist())}", "set `resample_filter` accordingly")
