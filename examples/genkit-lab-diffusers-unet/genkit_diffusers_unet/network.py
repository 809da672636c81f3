import attrs
import torch
from diffusers import UNet2DModel
from torch import nn

from genkit.errors import RecipeError
from genkit.keys import Key
from genkit.kinds import setting


@attrs.frozen(kw_only=True)
class Network:
    """UNet2DModel of Hugging Face diffusers.

    Its timestep is `time_scale` times c_noise. What it has no input for, a second time and augmentation, it sees as
    further channels, the same at every pixel.
    """

    channels: tuple[int, ...] = setting((32, 64), "channels of each level; the sides halve between two of them")
    layers: int = setting(1, "residual blocks of each level, each way", check=attrs.validators.ge(1))
    groups: int = setting(8, "groups of its norms; divides all channels", check=attrs.validators.ge(1))
    time_scale: float = setting(250.0, "timesteps, of which its embedding is made, per unit of c_noise")

    def build(self, context):
        if odd := [c for c in self.channels if c % self.groups]:
            raise RecipeError("network.channels", f"{odd[0]} is no multiple of {self.groups}", "change network.groups")
        with Key(context.seed).reseeded("cpu"):
            return Unet(self, context).to(context.device)


class Unet(nn.Module):
    def __init__(self, settings, context):
        super().__init__()
        spec, levels = context.spec, len(settings.channels)
        self.time_scale, self.augment = settings.time_scale, spec.augment
        self.classes = spec.classes
        self.unet = UNet2DModel(
            in_channels=spec.channels + context.times - 1 + spec.augment,
            out_channels=context.out_channels or spec.channels,
            down_block_types=("DownBlock2D",) * levels,
            up_block_types=("UpBlock2D",) * levels,
            block_out_channels=settings.channels,
            layers_per_block=settings.layers,
            norm_num_groups=settings.groups,
            attention_head_dim=settings.groups,
            num_class_embeds=spec.classes + 1 if spec.classes else None,
        )

    def forward(self, x, c_noise, cond):
        c = c_noise.reshape(len(x), -1).to(x.dtype)
        changed = cond.get("augment", x.new_zeros(len(x), self.augment))[:, : self.augment].to(x.dtype)
        planes = torch.cat([c[:, 1:], changed], 1)[:, :, None, None].expand(-1, -1, *x.shape[2:])
        label = cond.get("label", torch.full((len(x),), self.classes, device=x.device)) if self.classes else None
        return self.unet(torch.cat([x, planes], 1), self.time_scale * c[:, 0], class_labels=label).sample
