import attrs
import torch

from genkit.data import Resident
from genkit.keys import Key
from genkit.kinds import Spec, setting


@attrs.frozen(kw_only=True)
class Api1Dataset:
    """Points spread evenly over a square."""

    samples: int = setting(10_000, "how many", check=attrs.validators.ge(1))

    def build(self, setup):
        generator = Key(setup.seed).generator("data")
        x = 2 * torch.rand(self.samples, 2, 1, 1, generator=generator) - 1
        spec = Spec(channels=2, height=1, width=1, dtype="float32", sigma_data=3**-0.5)
        return Resident(x=x.to(setup.device), spec=spec, identity=f"square-{self.samples}-{setup.seed}")
