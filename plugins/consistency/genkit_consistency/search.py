"""Levels of the further sampling steps, searched by a figure of merit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from genkit.errors import RecipeError

Levels = tuple[float, ...]


def ternary(value: Callable[[int], float], left: int, right: int) -> int:
    """Where value is least on left … right, if it falls and then rises: by thirds, then whoever is left.

    The published script ends with the last two thirds instead of the two ends where two or three are left.

    Source: Song et al. 2023 (arXiv 2303.01469), section 3.
    """
    while right - left >= 3:
        third = (right - left) // 3
        if value(left + third) < value(right - third):
            right -= third
        else:
            left += third
    return min(range(left, right + 1), key=value)


def search(value: Callable[[Levels], float], candidates: Sequence[float], steps: int) -> Levels:
    """The levels after the first of `steps` steps: one after the other, each below those found before.

    Args:
        value: What is minimised; asked once for the same levels.
        candidates: Levels to choose from, descending.

    Raises:
        RecipeError: Nothing is left to choose from.
    """
    asked = functools.cache(value)
    found: Levels = ()
    first = 0
    for _ in range(steps - 1):
        if first >= len(candidates):
            raise RecipeError(
                "--steps", f"no level is left below {found[-1]:.4g}", "take fewer steps, or more --points"
            )
        best = ternary(lambda i, before=found: asked((*before, candidates[i])), first, len(candidates) - 1)  # type: ignore[misc]
        found, first = (*found, candidates[best]), best + 1
    return found
