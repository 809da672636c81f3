"""Converters for `genkit weights convert`: from a published file to a network of ours and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from genkit import build
from genkit.data import Weights
from genkit.errors import DataError, GenkitError
from genkit.kinds import Context, Spec
from genkit_unets import snapshots
from genkit_unets.convert import from_edm, from_openai
from genkit_unets.edm import Adm, Ddpmpp, Edm, Ncsnpp

# Arguments of EDM's networks that are settings of ours, and the defaults that EDM's code gives them.
_SHARED = {"channel_mult_emb": 4, "dropout": 0.1}
_SONG: dict[str, Any] = {
    **_SHARED,
    "model_channels": 128,
    "channel_mult": [1, 2, 2, 2],
    "num_blocks": 4,
    "attn_resolutions": [16],
    "embedding_type": "positional",
    "channel_mult_noise": 1,
    "encoder_type": "standard",
    "decoder_type": "standard",
    "resample_filter": [1, 1],
}
_DHARIWAL: dict[str, Any] = {
    **_SHARED,
    "model_channels": 192,
    "channel_mult": [1, 2, 3, 4],
    "num_blocks": 3,
    "attn_resolutions": [32, 16, 8],
}
_RENAMED = {"embedding_type": "embedding", "encoder_type": "encoder", "decoder_type": "decoder"}
_NOT_KEPT = {"augment_dim", "label_dropout", "img_resolution", "in_channels", "out_channels", "label_dim"}


def edm(path: Path) -> Weights:
    """EDM's network pickles: SongUNet and DhariwalUNet with EDM's preconditioning."""
    return _pickled(path, "EDMPrecond", fourier_scale=16.0)


def ect(path: Path) -> Weights:
    """ECT's network pickles: the same networks, fine-tuned as consistency models.

    Their scalings are sampled with a sigma_min of their own, 0.003 as published: f(x, sigma_min) = x there.
    """
    return _pickled(path, "ECMPrecond", fourier_scale=0.02, sigma_min=0.003)


def _pickled(path: Path, wanted: str, fourier_scale: float, sigma_min: float | None = None) -> Weights:
    """A network with what is around it.

    Args:
        sigma_min: That of its scalings, where the file does not tell; None where they have none.
    """
    found = snapshots.pickled(path)
    whole = found.get("ema") if isinstance(found, Mapping) else found
    kind = getattr(whole, "kind", type(whole).__name__)
    if kind != wanted:
        what = f"has a {kind} where a {wanted} should be"
        raise DataError(path, what, "other scalings of the network's inputs need other weights")
    inner = whole.state.get("_modules", {}).get("model")
    told = getattr(inner, "state", {}).get("_init_kwargs") or {}
    settings, spec = _settings(path, getattr(inner, "kind", ""), told, fourier_scale), _spec(path, told)
    made = _named(path, settings, spec, snapshots.module_state(inner, path), from_edm)
    if sigma_min is None:
        return made
    least = whole.state.get("sigma_min", sigma_min)
    if not isinstance(least, float) or not 0 < least < 1:
        raise DataError(path, "its scalings have no sigma_min between 0 and 1", "use a file from its authors")
    return made._replace(tables={"levels": {"sigma_min": least}})


def _settings(path: Path, kind: str, told: Mapping[str, Any], fourier_scale: float) -> Edm:
    """The component with the settings that a network was built with."""
    if kind not in ("SongUNet", "DhariwalUNet"):
        raise DataError(path, f"has a network of class {kind!r}", "SongUNet and DhariwalUNet can be converted")
    defaults = _SONG if kind == "SongUNet" else _DHARIWAL
    if strange := sorted(set(told) - set(defaults) - _NOT_KEPT):
        raise DataError(path, f"its network was built with {strange[0]!r}, which is unknown here", "use another file")
    values = {name: told.get(name, default) for name, default in defaults.items()}
    given = {_RENAMED.get(name, name): tuple(v) if isinstance(v, list | tuple) else v for name, v in values.items()}
    try:
        if kind == "DhariwalUNet":
            return Adm(**given)
        family = Ncsnpp if given["embedding"] == "fourier" else Ddpmpp
        given["resample_filter"] = tuple(float(tap) for tap in given["resample_filter"])
        return family(**given, fourier_scale=fourier_scale)
    except (ValueError, TypeError) as error:
        raise DataError(path, f"its network has other settings ({error.args[0]})", "use another file") from error


def _spec(path: Path, told: Mapping[str, Any]) -> Spec:
    names = ("in_channels", "img_resolution", "label_dim", "augment_dim")
    channels, size, classes, augment = (told.get(name, 0) for name in names)
    numbers = (channels, size, classes, augment)
    if not all(isinstance(n, int) for n in numbers) or min(channels, size) < 1 or max(size, augment) > 4096:
        raise DataError(path, "does not tell the size of its pictures", "use a file from its authors")
    return Spec(channels=channels, height=size, width=size, classes=classes, augment=augment)


def openai_cm(path: Path) -> Weights:
    """OpenAI's consistency models for ImageNet 64 and LSUN 256: UNetModel."""
    weights = snapshots.state_dict(path)
    try:
        settings, spec = _unet_model(weights)
    except (KeyError, IndexError, ValueError) as error:
        what = f"has not the tensors of a UNetModel with resblock_updown ({error.args[0] if error.args else error})"
        raise DataError(path, what, "use a file of openai/consistency_models") from error
    return _named(path, settings, spec, weights, from_openai)


def _unet_model(weights: Mapping[str, Tensor]) -> tuple[Adm, Spec]:
    """Settings and samples from names and shapes.

    These do not tell the size of pictures nor the channels of a head: all published models have 8 pixels at the
    coarsest level and 64 channels.
    """
    width, emb = weights["time_embed.0.weight"].shape[1], weights["time_embed.0.weight"].shape[0]
    groups = len({name.split(".")[1] for name in weights if name.startswith("output_blocks.")})
    last = [i for i in range(groups) for n in (1, 2) if f"output_blocks.{i}.{n}.in_layers.0.weight" in weights]
    levels = len(last) + 1
    per_level = groups // levels
    firsts = [per_level * level for level in reversed(range(levels))]  # of each level, the finest first
    mult = tuple(weights[f"output_blocks.{i}.0.out_layers.3.weight"].shape[0] // width for i in firsts)
    size = 8 << (levels - 1)
    attends = [f"output_blocks.{i}.1.qkv.weight" in weights for i in firsts]
    block = weights["output_blocks.0.0.emb_layers.1.weight"].shape[0]
    settings = Adm(
        model_channels=width,
        channel_mult=mult,
        channel_mult_emb=emb // width,
        num_blocks=per_level - 1,
        attn_resolutions=tuple(size >> level for level in range(levels) if attends[level]),
        scale_shift_norm=block == 2 * mult[-1] * width,
        positional_scale=1000.0,
    )
    classes = len(weights["label_emb.weight"]) if "label_emb.weight" in weights else 0
    channels = weights["input_blocks.0.0.weight"].shape[1]
    return settings, Spec(channels=channels, height=size, width=size, classes=classes)


def _named(path: Path, settings: Edm, spec: Spec, weights: Mapping[str, Tensor], rename: Any) -> Weights:
    try:
        network = build(settings, Context(spec=spec, device="meta"))
        return Weights(settings, spec, {n: t.float() for n, t in rename(weights, network).items()})
    except GenkitError as error:
        raise DataError(path, f"its tensor {error.where}: {error.what}", "use a file from its authors") from error
