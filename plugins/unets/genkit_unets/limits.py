"""Limits of sizes in recipes."""

from __future__ import annotations

from typing import Any

from attrs.validators import and_, ge, le


def size(least: int, most: int = 10**6) -> Any:
    """A check of a size, which tells absurd ones before anything is allocated or begun.

    A layer of 10^6 features has 10^12 weights, which no machine holds.
    """
    return and_(ge(least), le(most))
