"""The networks of EDM: `ncsnpp`, `ddpmpp` and `adm`."""

from __future__ import annotations

import attrs
from attrs.validators import and_, deep_iterable, gt, in_, min_len, optional
from torch import nn

from genkit.errors import RecipeError
from genkit.kinds import Context, setting
from genkit_unets.blocks import Style, seeded, uniform, xavier
from genkit_unets.edm_settings import EdmSettings, Plan, even
from genkit_unets.edm_unet import EdmUNet
from genkit_unets.limits import size


@attrs.frozen(kw_only=True)
class Edm(EdmSettings):
    """A component that builds the U-Net of its settings."""

    def build(self, context: Context) -> nn.Module:
        """The network, with weights from `context.seed` alone.

        Raises:
            RecipeError: The sides do not halve as often as `channel_mult` asks, the embedding's channels are
                odd, or heads do not divide the channels.
        """
        width = self.model_channels * self.channel_mult_noise
        if width % 2:
            raise RecipeError("network.model_channels", f"{width} channels of c_noise are odd", "use an even number")
        sizes = self.sizes(context.spec)
        for mult in self.channel_mult:
            self.head(self.model_channels * mult)
        return seeded(context, lambda: EdmUNet(self, sizes, context))


@attrs.frozen(kw_only=True)
class Ncsnpp(Edm):
    """NCSN++ as EDM and iCT have it: Fourier embedding, residual encoder, FIR filter.

    The defaults are those for CIFAR-10, 56.4 M weights; with `num_blocks` 8 it is iCT's deep network, 97.6 M.
    EDM and CT embed with `fourier_scale` 16, iCT with 0.02. Level i has `model_channels * channel_mult[i]`
    channels and half the resolution of level i - 1. With the residual encoder the picture itself, convolved
    and halved, is added to the features of every level after the first.

    Source: Song et al. 2021 (arXiv 2011.13456), appendix H; Karras et al. 2022 (arXiv 2206.00364), table 8 and
    appendix F.4; the scale: Song & Dhariwal 2023 (arXiv 2310.14189), section 3.1.
    """

    plan = Plan(Style(xavier, quiet=1e-5, qkv=0.2**0.5, project=True), early=True, attends_all=False)

    channel_mult_noise: int = setting(2, "channels of c_noise's own embedding over model_channels", check=size(1))
    embedding: str = setting("fourier", "of c_noise: fourier or positional", check=in_(("fourier", "positional")))
    resample_filter: tuple[float, ...] = setting(
        (1.0, 3.0, 3.0, 1.0), "taps of the filter that halves and doubles", check=and_(deep_iterable(gt(0)), even)
    )
    encoder: str = setting("residual", "standard, or residual: with the picture", check=in_(("standard", "residual")))


@attrs.frozen(kw_only=True)
class Ddpmpp(Ncsnpp):
    """DDPM++ as EDM has it: positional embedding, standard encoder, box filter.

    Otherwise as `ncsnpp`; the defaults are those for CIFAR-10, 55.7 M weights.

    Source: Song et al. 2021 (arXiv 2011.13456), appendix H; Karras et al. 2022 (arXiv 2206.00364), table 8.
    """

    channel_mult_noise: int = setting(1, "channels of c_noise's own embedding over model_channels", check=size(1))
    embedding: str = setting("positional", "of c_noise: fourier or positional", check=in_(("fourier", "positional")))
    resample_filter: tuple[float, ...] = setting(
        (1.0, 1.0), "taps of the filter that halves and doubles", check=and_(deep_iterable(gt(0)), even)
    )
    encoder: str = setting("standard", "standard, or residual: with the picture", check=in_(("standard", "residual")))


@attrs.frozen(kw_only=True)
class Adm(Edm):
    """ADM as EDM has it: scale and shift by the embedding, attention of several heads at several levels.

    The defaults are those for ImageNet 64x64, 295.9 M weights with 1000 classes. iCT sets `scale_shift_norm`
    false (282.2 M, and 472.8 M with its deep network's 6 blocks), `dropout` 0.2 and `dropout_max_resolution` 16.

    Source: Dhariwal & Nichol 2021 (arXiv 2105.05233), section 3; Karras et al. 2022 (arXiv 2206.00364), table 8
    and appendix F.4; without scale and shift: Song & Dhariwal 2023 (arXiv 2310.14189).
    """

    plan = Plan(Style(uniform, eps=1e-5, sum=1.0), early=False, attends_all=True)

    model_channels: int = setting(192, "channels that the multipliers multiply; an even number", check=size(2))
    channel_mult: tuple[int, ...] = setting(
        (1, 2, 3, 4),
        "channels of each level over model_channels; at least one",
        check=and_(deep_iterable(size(1, 10**4)), min_len(1)),
    )
    num_blocks: int = setting(3, "residual blocks per level, and one more on the way up", check=size(1, 10**4))
    attn_resolutions: tuple[int, ...] = setting(
        (32, 16, 8), "heights, in pixels, of the levels with attention; one that no level has says nothing"
    )
    channels_per_head: int | None = setting(
        64, "channels per head of attention; none: one head", check=optional(size(1))
    )
    scale_shift_norm: bool = setting(True, "the embedding scales and shifts after the second norm (iCT: false)")
