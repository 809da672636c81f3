"""What velocities and flow maps are for Gaussian data, worked out on paper."""

import pytest
import torch

from genkit.levels import expand


class Gaussian(torch.nn.Module):
    """Data N(0, s^2), each number for itself; as a network, what MeanFlow's should end as, told (t, t - r)."""

    s = 0.37

    def variance(self, t):
        """Of z = (1 - t) x0 + t eps."""
        return (1 - t) ** 2 * self.s**2 + t**2

    def velocity(self, z, t):
        """E[eps - x0 | z]."""
        return z * expand((t - (1 - t) * self.s**2) / self.variance(t), z)

    def average_velocity(self, z, t, r):
        """u, with z - (t - r) u where the path through z is at r; at r = t the velocity."""
        u = z * expand((1 - (self.variance(r) / self.variance(t)).sqrt()) / torch.where(t > r, t - r, 1.0), z)
        return torch.where(expand(t > r, z), u, self.velocity(z, t))

    def jump(self, x, sigma, to):
        """Where the path through x = x0 + sigma eps is at level `to`."""
        return x * expand(((self.s**2 + to**2) / (self.s**2 + sigma**2)).sqrt(), x)

    def forward(self, z, c_noise, cond):
        t, gap = c_noise.unbind(1)
        return self.average_velocity(z, t, t - gap)


@pytest.fixture
def gaussian():
    return Gaussian()
