"""Data of known law, whose denoiser, consistency function or moments are known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor

from genkit.data import Resident, hdf5
from genkit.keys import Key
from genkit.kinds import Data, Setup, Spec, setting
from genkit.levels import expand

HELD_OUT = 2_000
_SAMPLES = "training samples; another 2,000 are held out"


def _resident(x: Tensor, held_out: Tensor, spec: Spec, setup: Setup) -> Data:
    def part(samples: Tensor, rest: Data | None = None) -> Data:
        content = hdf5.content(samples.numpy())
        return Resident(x=samples.to(setup.device), spec=spec, identity=content, held_out=rest)

    return part(x, part(held_out))


def _drawn(draw: Callable[[int, torch.Generator], Tensor], samples: int, spec: Spec, setup: Setup) -> Data:
    """Training and held-out samples, drawn from the seed; the latter do not depend on how many the former are."""
    key = Key(setup.seed)
    x = draw(samples, key.generator("data", 0))
    return _resident(x, draw(HELD_OUT, key.generator("data", 1)), spec, setup)


def _from(least: int, most: int) -> Any:
    """A check of whole numbers, which tells absurd ones before anything is allocated."""
    return attrs.validators.and_(attrs.validators.ge(least), attrs.validators.le(most))


@attrs.frozen(kw_only=True)
class Delta:
    """A point mass at xi, in one dimension.

    Samples are (1, 1, 1), float32. The denoiser is xi everywhere.

    Source: Song & Dhariwal 2023 (arXiv 2310.14189), section 3.2, where it shows what a teacher's EMA does.
    """

    xi: float = setting(0.0, "where all samples are")
    sigma_data: float = setting(0.5, "the spec's sigma_data; the data have none", check=attrs.validators.gt(0))
    samples: int = setting(20_000, _SAMPLES, check=_from(1, 10**8))

    def build(self, setup: Setup) -> Data:
        spec = Spec(channels=1, height=1, width=1, dtype="float32", sigma_data=self.sigma_data)
        x, held_out = (torch.full((n, 1, 1, 1), self.xi, dtype=torch.float32) for n in (self.samples, HELD_OUT))
        return _resident(x, held_out, spec, setup)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x] = xi; x (B, 1, 1, 1), sigma (B,)."""
        return torch.full_like(x, self.xi)

    def consistency(self, x: Tensor, sigma: Tensor, sigma_min: float) -> Tensor:
        """f(x, sigma) = (sigma_min / sigma) x + (1 - sigma_min / sigma) xi, which is x at sigma_min."""
        share = sigma_min / expand(sigma, x)
        return share * x + (1 - share) * self.xi


@attrs.frozen(kw_only=True)
class Gaussian:
    """Independent normals N(mean, std^2).

    Samples are (channels, height, width), float32; the spec's sigma_data is std.
    """

    mean: float = setting(0.0, "mean of each number")
    std: float = setting(0.5, "standard deviation of each number", check=attrs.validators.gt(0))
    channels: int = setting(2, "channels", check=_from(1, 10**4))
    height: int = setting(1, "height", check=_from(1, 10**4))
    width: int = setting(1, "width", check=_from(1, 10**4))
    samples: int = setting(20_000, _SAMPLES, check=_from(1, 10**8))

    def build(self, setup: Setup) -> Data:
        spec = Spec(channels=self.channels, height=self.height, width=self.width, dtype="float32", sigma_data=self.std)
        return _drawn(self._draw, self.samples, spec, setup)

    def _draw(self, count: int, generator: torch.Generator) -> Tensor:
        normal = torch.randn(count, self.channels, self.height, self.width, generator=generator)
        return self.mean + self.std * normal

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x] = (sigma^2 mean + std^2 x) / (sigma^2 + std^2); x (B, *), sigma (B,)."""
        square = expand(sigma, x).square()
        return (square * self.mean + self.std**2 * x) / (square + self.std**2)

    def consistency(self, x: Tensor, sigma: Tensor, sigma_min: float) -> Tensor:
        """f(x, sigma) = mean + (x - mean) sqrt((std^2 + sigma_min^2) / (std^2 + sigma^2)).

        The solution at sigma_min of dx/dsigma = (x - D(x, sigma)) / sigma through x at sigma.
        """
        square = expand(sigma, x).square()
        return self.mean + (x - self.mean) * ((self.std**2 + sigma_min**2) / (self.std**2 + square)).sqrt()


@attrs.frozen(kw_only=True)
class Ring:
    """A circle in the plane, blurred along its radius.

    x = (radius + std n) (cos a, sin a), n ~ N(0, 1), a uniform on [0, 2 pi); samples are (2, 1, 1),
    float32. The spec's sigma_data is the standard deviation of one coordinate.
    """

    radius: float = setting(0.7, "radius of the circle", check=attrs.validators.gt(0))
    std: float = setting(0.05, "standard deviation of the distance from the centre", check=attrs.validators.ge(0))
    samples: int = setting(20_000, _SAMPLES, check=_from(1, 10**8))

    def build(self, setup: Setup) -> Data:
        sigma_data = math.sqrt(float(self.covariance()[0, 0]))
        spec = Spec(channels=2, height=1, width=1, dtype="float32", sigma_data=sigma_data)
        return _drawn(self._draw, self.samples, spec, setup)

    def _draw(self, count: int, generator: torch.Generator) -> Tensor:
        angle = 2 * math.pi * torch.rand(count, generator=generator)
        distance = self.radius + self.std * torch.randn(count, generator=generator)
        return (distance * torch.stack((angle.cos(), angle.sin()))).T.reshape(count, 2, 1, 1).contiguous()

    def mean(self) -> Tensor:
        """E[x] = 0; (2,), float64."""
        return torch.zeros(2, dtype=torch.float64)

    def covariance(self) -> Tensor:
        """Cov[x] = (radius^2 + std^2) / 2 I; (2, 2), float64."""
        return (self.radius**2 + self.std**2) / 2 * torch.eye(2, dtype=torch.float64)
