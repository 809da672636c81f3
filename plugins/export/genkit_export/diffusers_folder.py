"""The folder of a `ConsistencyModelPipeline` of diffusers, both ways: its UNet2DModel is the network `adm`.

The two networks are one; what the settings of one say that the other has no word for is refused. The scheduler
`CMStochasticIterativeScheduler` has the parameterization `boundary` and the levels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import genkit
from genkit.data import weights
from genkit.denoiser import Denoiser
from genkit.errors import DataError, RecipeError
from genkit.kernel import registry, resolving
from genkit.kinds import Context
from genkit_export import model
from genkit_export.graph import Steps
from genkit_export.model import Model

INDEX, TOLD, UNET = "model_index.json", "genkit.json", Path("unet/diffusion_pytorch_model.safetensors")
PIPELINE = {
    "_class_name": "ConsistencyModelPipeline",
    "unet": ["diffusers", "UNet2DModel"],
    "scheduler": ["diffusers", "CMStochasticIterativeScheduler"],
}
DOWN = {False: "ResnetDownsampleBlock2D", True: "AttnDownBlock2D"}  # by whether the level has attention
UP = {False: "ResnetUpsampleBlock2D", True: "AttnUpBlock2D"}
ALWAYS = {  # what a UNet2DModel that is an `adm` has in any case; others are other networks
    "center_input_sample": False, "time_embedding_type": "positional", "freq_shift": 0, "flip_sin_to_cos": True,
    "mid_block_type": "UNetMidBlock2D", "mid_block_scale_factor": 1, "downsample_type": "resnet",
    "upsample_type": "resnet", "act_fn": "silu", "norm_eps": 1e-5, "add_attention": True, "class_embed_type": None,
}  # fmt: skip
OURS = {  # and an `adm` that is a UNet2DModel
    "qk_norm": False, "double_norm": False, "encoder": "standard", "resample_filter": (1.0, 1.0),
    "embedding": "positional", "positional_scale": 1000.0,
}  # fmt: skip
WHOLE = {"stem": "conv_in", "norm": "conv_norm_out", "out": "conv_out", "conditioning.label": "class_embedding",
         "conditioning.inner": "time_embedding.linear_1", "conditioning.outer": "time_embedding.linear_2"}  # fmt: skip
BLOCK = {"norm0": "norm1", "conv0": "conv1", "shift": "time_emb_proj", "norm1": "norm2", "conv1": "conv2",
         "skip": "conv_shortcut"}  # fmt: skip
QKV = ("to_q", "to_k", "to_v")


def write(made: Model, target: Path, steps: Steps) -> None:
    """The folder.

    Raises:
        RecipeError: The model says something that diffusers has no word for.
    """
    config = _unet_config(made)
    (target / "unet").mkdir(parents=True)
    (target / "scheduler").mkdir()
    save_file(_theirs(made.denoiser.network, made.state), target / UNET)
    levels, spec = made.recipe.levels, made.denoiser.spec
    scheduler = {"_class_name": PIPELINE["scheduler"][1], "clip_denoised": False, "num_train_timesteps": 40,
                 "s_noise": 1.0, "sigma_data": spec.sigma_data, "sigma_min": levels.sigma_min,
                 "sigma_max": levels.sigma_max, "rho": levels.rho}  # fmt: skip
    files = {INDEX: PIPELINE, "unet/config.json": config, "scheduler/scheduler_config.json": scheduler, TOLD: made.told}
    for name, told in files.items():
        (target / name).write_text(json.dumps(told, indent=2) + "\n", "utf-8")


def read(folder: Path) -> Denoiser:
    """The denoiser of such a folder, of diffusers or of `write`; diffusers need not be installed.

    Raises:
        DataError: It is of another pipeline or network, or damaged.
    """
    try:
        index, unet, scheduler = (
            json.loads((folder / name).read_text("utf-8"))
            for name in (INDEX, "unet/config.json", "scheduler/scheduler_config.json")
        )
        own = json.loads((folder / TOLD).read_text("utf-8")) if (folder / TOLD).is_file() else {}
        if index["_class_name"] != PIPELINE["_class_name"]:
            raise DataError(folder, f"is a {index['_class_name']}", f"a {PIPELINE['_class_name']} can be read")
        told = {**_told(folder, unet, scheduler), **own}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(folder, f"is no whole folder of diffusers ({error})", "save it again") from error
    settings = json.loads(told["network"])
    network = genkit.build(
        resolving.component("network", settings.pop("use"), **settings),
        Context(spec=model.spec_of(told, folder), device="meta"),
    )
    _require_groups(network, unet["norm_num_groups"], folder)
    return model.rebuilt(told, _ours(network, weights.load(folder / UNET), folder), folder)


# ---- settings ------------------------------------------------------------------------------------


def _unet_config(made: Model) -> dict[str, Any]:
    settings, spec = made.recipe.objective.network, made.denoiser.spec
    named = {
        slot: registry.info_of(getattr(made.recipe.objective, slot)).name for slot in ("network", "parameterization")
    }
    for slot, wanted in (("network", "adm"), ("parameterization", "boundary")):
        if named[slot] != wanted:
            raise RecipeError(slot, f"{named[slot]!r} is none of diffusers' consistency models", f"only {wanted!r} is")
    first, width = settings.model_channels * settings.channel_mult[0], settings.model_channels
    heights = [height for height, _ in settings.sizes(spec)]
    attends = [height in settings.attn_resolutions for height in heights]
    heads = {settings.head(width * m) for m, a in zip(settings.channel_mult, [*attends[:-1], True], strict=True) if a}
    same = {
        **OURS,
        "channels_per_head": settings.channels_per_head and next(iter(heads)),
        "channel_mult_noise": first / width,
    }
    for name, value in same.items():
        if getattr(settings, name) != value or (name == "channels_per_head" and value and len(heads) > 1):
            what = f"{getattr(settings, name)!r} has no word in diffusers' UNet2DModel"
            raise RecipeError(f"network.{name}", what, f"{value!r} has")
    if spec.height != spec.width:
        raise RecipeError("network", f"samples of {spec.height}x{spec.width} are not square", "diffusers' are")
    groups = _groups(made.denoiser.network)
    if len(groups) > 1:
        what = f"norms have {' and '.join(map(str, sorted(groups)))} groups"
        raise RecipeError("network.model_channels", what, "diffusers has one number: 128 channels and more have 32")
    return {
        "_class_name": "UNet2DModel", **ALWAYS, "sample_size": spec.height,
        "in_channels": spec.channels, "out_channels": spec.channels,
        "time_embedding_dim": width * settings.channel_mult_emb,
        "down_block_types": [DOWN[a] for a in attends], "up_block_types": [UP[a] for a in reversed(attends)],
        "block_out_channels": [width * mult for mult in settings.channel_mult],
        "layers_per_block": settings.num_blocks, "dropout": settings.dropout,
        "attention_head_dim": settings.channels_per_head, "norm_num_groups": min(groups),
        "attn_norm_num_groups": min(groups), "num_class_embeds": spec.classes or None,
        "resnet_time_scale_shift": "scale_shift" if settings.scale_shift_norm else "default",
    }  # fmt: skip


def _told(folder: Path, unet: Mapping[str, Any], scheduler: Mapping[str, Any]) -> dict[str, str]:
    """Network, levels and samples by what the folder's configurations say."""
    fixed = {**ALWAYS, "attn_norm_num_groups": unet["norm_num_groups"], "out_channels": unet["in_channels"]}
    fixed["up_block_types"] = [UP[name == DOWN[True]] for name in reversed(unet["down_block_types"])]
    for name, value in fixed.items():
        if unet.get(name) is not None and unet[name] != value:
            raise DataError(folder / "unet/config.json", f"{name} is {unet[name]!r}", f"of an `adm` it is {value!r}")
    for name in set(unet["down_block_types"]) - set(DOWN.values()):
        raise DataError(
            folder / "unet/config.json", f"{name} is no block of an `adm`", f"those are {DOWN[False]}, {DOWN[True]}"
        )
    size, channels = unet["sample_size"], unet["block_out_channels"]
    attends = [size >> i for i, name in enumerate(unet["down_block_types"]) if name == DOWN[True]]
    width = channels[0]
    network = {
        "use": "adm", "model_channels": width, "channel_mult": [c // width for c in channels],
        "channel_mult_emb": (unet.get("time_embedding_dim") or 4 * width) // width,
        "num_blocks": unet["layers_per_block"], "attn_resolutions": attends, "dropout": unet.get("dropout", 0.0),
        "channels_per_head": unet["attention_head_dim"], "positional_scale": OURS["positional_scale"],
        "scale_shift_norm": unet["resnet_time_scale_shift"] == "scale_shift",
    }  # fmt: skip
    spec = {"channels": unet["in_channels"], "height": size, "width": size, "sigma_data": scheduler["sigma_data"],
            "classes": unet.get("num_class_embeds") or 0}  # fmt: skip
    tables = {"objective": {"use": "consistency"}, "parameterization": {"use": "boundary"}}
    levels = {name: scheduler[name] for name in ("sigma_min", "sigma_max", "rho")}
    return {
        "network": json.dumps(network),
        "spec": json.dumps(spec),
        "tables": json.dumps({**tables, "levels": levels}),
    }


def _groups(network: nn.Module) -> set[int]:
    return {module.num_groups for module in network.modules() if isinstance(module, nn.GroupNorm)}


def _require_groups(network: nn.Module, wanted: int, folder: Path) -> None:
    if (groups := _groups(network)) != {wanted}:
        what = f"norms have {wanted} groups, where an `adm` has {' and '.join(map(str, sorted(groups)))}"
        raise DataError(folder / "unet/config.json", what, "it cannot be read")


# ---- weights -------------------------------------------------------------------------------------


def _names(network: Any) -> dict[str, str]:
    """Their name of each of our modules that has weights; of attention, what stands before `to_q` and the like."""
    from genkit_unets.edm_unet import decoder, encoder

    settings, heights, names = network.settings, [height for height, _ in network.sizes], dict(WHOLE)
    last, seen = len(settings.channel_mult) - 1, dict[tuple[str, int], int]()
    for side, places in (("encoder", encoder), ("decoder", decoder)):
        for i, place in enumerate(places(settings, heights)):
            level = place.level if side == "encoder" else last - place.level
            at = f"{'down' if side == 'encoder' else 'up'}_blocks.{level - (place.kind in ('down', 'up'))}"
            if place.kind in ("down", "up"):
                block = f"{at}.{place.kind}samplers.0"
            else:
                number = seen.get((side + place.kind, place.level), 0)
                seen[side + place.kind, place.level] = number + 1
                at = "mid_block" if place.kind == "in" else at
                block = f"{at}.resnets.{number}"
                names[f"{side}.{i}.attention"] = f"{at}.attentions.{number}"
            names |= {f"{side}.{i}.block.{mine}": f"{block}.{its}" for mine, its in BLOCK.items()}
    return names


def _parts(name: str, names: Mapping[str, str]) -> list[str]:
    """Their names of a tensor of ours: three where it is that of queries, keys and values together."""
    module, _, leaf = name.rpartition(".")
    if ".attention." not in module:
        return [f"{names[module]}.{leaf}"]
    at, _, part = module.rpartition(".")
    theirs = {"norm": ("group_norm",), "out": ("to_out.0",), "qkv": QKV}[part]
    return [f"{names[at]}.{its}.{leaf}" for its in theirs]


def _theirs(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names, found = _names(network), dict[str, Tensor]()
    for name, tensor in state.items():
        parts = _parts(name, names)
        flat = tensor.flatten(1) if ".attention." in name and tensor.ndim == 4 else tensor  # theirs are linear layers
        found |= {part: piece.contiguous() for part, piece in zip(parts, flat.chunk(len(parts)), strict=True)}
    return found


def _ours(network: nn.Module, given: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    names, found, rest = _names(network), dict[str, Tensor](), set(given)
    for name, mine in network.state_dict().items():
        parts = _parts(name, names)
        if missing := [part for part in parts if part not in given]:
            raise DataError(folder / UNET, f"has no {missing[0]}", "save it again")
        whole = torch.cat([given[part] for part in parts]).float()
        if whole.numel() != mine.numel():
            raise DataError(folder / UNET, f"{parts[0]} has shape {tuple(given[parts[0]].shape)}", "save it again")
        found[name] = whole.reshape(mine.shape)
        rest -= set(parts)
    if rest:
        raise DataError(folder / UNET, f"an `adm` has no place for {min(rest)}", "it cannot be read")
    return found
