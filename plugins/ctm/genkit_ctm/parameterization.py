"""The scalings of CTM, and the denoiser within a model of two times."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import ClassVar

import attrs
import torch
from torch import Tensor

from genkit.denoiser import Denoiser, Scalings
from genkit.kinds import Context
from genkit_diffusion.parameterization import EdmScalings


@attrs.frozen(kw_only=True)
class CtmScalings:
    """From (x, t) to level s, with g = c_skip x + c_out F by EDM's scalings:

        G(x, t, s) = (s/t) x + (1 - s/t) g(x, t, s),  c_noise = (ln(t) / 4, ln(s) / 4).

    G(x, t, t) = x exactly. Without s it is 0, and G is g. Below sigma_min nothing is trained: there the network is told
    sigma_min for s.

    Source: Kim et al. 2023 (arXiv 2310.02279), section 3; EDM's scalings: its published code.
    """

    edm: EdmScalings
    sigma_min: float

    def __call__(self, sigma: Tensor, to: Tensor | None = None) -> Scalings:
        g = self.edm(sigma)
        s = torch.zeros_like(sigma) if to is None else to
        share = (s / sigma).to(g.c_skip.dtype)
        told = torch.stack([g.c_noise, self.edm(s.clamp(min=self.sigma_min)).c_noise.to(g.c_noise)], 1)
        return Scalings(share + (1 - share) * g.c_skip, (1 - share) * g.c_out, g.c_in, told)


@attrs.frozen(kw_only=True)
class Ctm:
    """Jumps (s/t) x + (1 - s/t) g, with EDM's scalings in g."""

    times: ClassVar[int] = 2

    def build(self, context: Context) -> CtmScalings:
        return CtmScalings(edm=EdmScalings(sigma_data=context.spec.sigma_data), sigma_min=context.levels.sigma_min)


def denoised(model: Denoiser, x: Tensor, t: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
    """g(x, t, t), where the path through (x, t) points to: the mean of the clean data, once that is learnt.

    As G(x, t, s) = (s/t) x + (1 - s/t) g(x, t, s), g has the scalings of s = 0, and its network is told s = t. So it is
    with every parameterization whose c_skip and c_out are linear in s.

    Source: Kim et al. 2023 (arXiv 2310.02279), section 3.
    """
    scalings = model.parameterization

    def of_g(sigma: Tensor, to: Tensor | None) -> Scalings:
        return scalings(sigma, torch.zeros_like(sigma))._replace(c_noise=scalings(sigma, sigma).c_noise)

    view = copy.copy(model)  # the same network, compiled or not
    view.parameterization = of_g
    answer: Tensor = view(x, t, cond)
    return answer
