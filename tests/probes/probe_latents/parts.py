from __future__ import annotations

import attrs
import torch

from genkit.data.sources import Resident, quantise
from genkit.keys import Key
from genkit.kinds import Spec, setting

MEANS = torch.tensor([-1.0, 0.0, 1.0])


@attrs.frozen(kw_only=True)
class Latents:
    """Float32 latents whose mean tells their class."""

    samples: int = setting(600, "how many", check=attrs.validators.ge(3))

    def build(self, setup):
        spec = Spec(channels=4, height=2, width=2, classes=3, dtype="float32", sigma_data=0.85)
        label = torch.arange(self.samples) % 3
        noise = torch.randn(self.samples, *spec.shape, generator=Key(setup.seed).generator("data"))
        x = MEANS[label].reshape(-1, 1, 1, 1) + 0.2 * noise
        cond = {"label": label.to(setup.device)}
        return Resident(
            x=x.to(setup.device),
            spec=spec,
            identity=f"latents-{self.samples}-{setup.seed}",
            cond=cond,
            decoder=lambda x0: quantise(x0[:, :3] / 2),
        )
