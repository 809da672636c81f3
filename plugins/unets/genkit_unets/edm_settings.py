"""Settings that EDM's three families of networks have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import attrs
from attrs.validators import and_, deep_iterable, ge, gt, in_, lt, min_len, optional

from genkit.errors import RecipeError
from genkit.kinds import Spec, setting
from genkit_unets.blocks import Style
from genkit_unets.limits import size


class Plan(NamedTuple):
    """What distinguishes DDPM++ and NCSN++ from ADM, besides settings.

    Attributes:
        early: Labels join the embedding before its layers; the first level's stem ignores `channel_mult`;
            positional frequencies include their endpoint.
        attends_all: On the way up every block of a level has attention, not the last alone.
    """

    style: Style
    early: bool
    attends_all: bool


def even(instance: object, attribute: attrs.Attribute[object], value: tuple[float, ...]) -> None:
    if not value or len(value) % 2:
        raise ValueError(f"{attribute.name} has {len(value)} numbers; an even number of them keeps pixels in place")


@attrs.frozen(kw_only=True)
class EdmSettings:
    """What the three families have in common."""

    plan: ClassVar[Plan]
    former: ClassVar[Mapping[str, Any]] = {"times": 1}  # what the context tells now

    model_channels: int = setting(128, "channels that the multipliers multiply; an even number", check=size(2))
    channel_mult: tuple[int, ...] = setting(
        (2, 2, 2),
        "channels of each level over model_channels; at least one",
        check=and_(deep_iterable(size(1, 10**4)), min_len(1)),
    )
    num_blocks: int = setting(4, "residual blocks per level, and one more on the way up", check=size(1, 10**4))
    attn_resolutions: tuple[int, ...] = setting(
        (16,), "heights, in pixels, of the levels with attention; one that no level has says nothing"
    )
    channels_per_head: int | None = setting(
        None, "channels per head of attention; none: one head", check=optional(size(1))
    )
    qk_norm: bool = setting(False, "divide queries and keys by their root mean square: for stability")
    scale_shift_norm: bool = setting(False, "the embedding scales and shifts after the second norm, as in EDM's ADM")
    double_norm: bool = setting(False, "it does, by vectors of root mean square 1: for stability (sCM)")
    channel_mult_emb: int = setting(4, "channels of the embedding over model_channels", check=size(1))
    channel_mult_noise: int = setting(1, "channels of c_noise's own embedding over model_channels", check=size(1))
    embedding: str = setting("positional", "of c_noise: fourier or positional", check=in_(("fourier", "positional")))
    fourier_scale: float = setting(16.0, "standard deviation of the frequencies of fourier (iCT: 0.02)", check=gt(0))
    positional_scale: float = setting(
        1.0, "factor of c_noise before positional (OpenAI's consistency models: 1000)", check=gt(0)
    )
    encoder: str = setting("standard", "standard, or residual: with the picture", check=in_(("standard", "residual")))
    decoder: str = setting("standard", "standard: the last level makes the output", check=in_(("standard",)))
    resample_filter: tuple[float, ...] = setting(
        (1.0, 1.0), "taps of the filter that halves and doubles", check=and_(deep_iterable(gt(0)), even)
    )
    dropout: float = setting(0.0, "chance that a feature is dropped in a block", check=and_(ge(0), lt(1)))
    dropout_max_resolution: int | None = setting(
        None, "greatest height, in pixels, of blocks with dropout (iCT's ADM: 16); none: all", check=optional(size(1))
    )
    recompute: bool = setting(False, "backward computes blocks anew: less memory, more time", identity=False)

    def sizes(self, spec: Spec) -> list[tuple[int, int]]:
        """Height and width of each level.

        Raises:
            RecipeError: The sides do not halve as often as `channel_mult` asks.
        """
        found = [(spec.height, spec.width)]
        for i in range(1, len(self.channel_mult)):
            height, width = found[-1]
            if height % 2 or width % 2:
                raise RecipeError(
                    "network.channel_mult", f"level {i + 1} cannot halve {height}x{width}", f"use at most {i} numbers"
                )
            found.append((height // 2, width // 2))
        return found

    def head(self, channels: int) -> int:
        """Channels per head of attention over this many: nearest to `channels_per_head` from above.

        Raises:
            RecipeError: That many heads do not divide the channels.
        """
        heads = max(1, channels // (self.channels_per_head or channels))
        if channels % heads:
            what = f"{self.channels_per_head} channels make {heads} heads of {channels}, which they do not divide"
            raise RecipeError("network.channels_per_head", what, "use a divisor")
        return channels // heads
