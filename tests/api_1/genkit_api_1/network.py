import attrs
import torch
from torch import nn

from genkit.keys import Key
from genkit.kinds import setting


@attrs.frozen(kw_only=True)
class Api1Network:
    """The same small MLP at every pixel."""

    width: int = setting(64, "hidden features", check=attrs.validators.ge(1))

    def build(self, context):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(Key(context.seed).integer("init"))
            return Api1NetworkModule(self.width, context)


class Api1NetworkModule(nn.Module):
    def __init__(self, width, context):
        super().__init__()
        channels, times = context.spec.channels, context.times
        out = context.out_channels or channels
        self.layers = nn.Sequential(nn.Conv2d(channels + times, width, 1), nn.SiLU(), nn.Conv2d(width, out, 1))

    def forward(self, x, c_noise, cond):
        c = c_noise.to(x.dtype).reshape(len(x), -1, 1, 1).expand(-1, -1, *x.shape[2:])
        return self.layers(torch.cat([x, c], 1))
