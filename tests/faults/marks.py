"""Which fault a claim was made for."""

import pytest


def point(number, what):
    """A label: what happened before the claim held; the numbers and letters group faults of a kind."""
    return pytest.mark.fault(number, what)
