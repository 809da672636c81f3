"""How levels are paired on a grid."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from torch import Tensor

from genkit import levels
from genkit.kinds import Context, Noise
from genkit.levels import Levels


@attrs.frozen(kw_only=True)
class Grid:
    """Neighbours on the Karras grid of N(k) levels, by the noise law.

    A pair comes as often as the law has mass between its levels.

    Source: Song et al. 2023 (arXiv 2303.01469), algorithm 3; Song & Dhariwal 2023 (arXiv 2310.14189), eq. 10.
    """

    def build(self, context: Context) -> Neighbours:
        return Neighbours(levels=context.levels)


@attrs.frozen(kw_only=True)
class Neighbours:
    """The pairs of the grid on a range of levels."""

    levels: Levels

    def __call__(self, noise: Noise, n: int, draw: Callable[..., Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        u = draw()
        grid = levels.grid(self.levels, n, noise, u.device)
        i = grid.draw(u)
        return grid.sigmas.index_select(0, i + 1), grid.sigmas.index_select(0, i), grid.gaps.index_select(0, i)
