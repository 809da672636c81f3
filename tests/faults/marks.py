"""Which fault a claim was made for, and the claims that do not hold yet."""

import pytest

OPEN: dict[str, str] = {}  # by the end of a test's id, what happens today: such a claim is expected to fail


def point(number, what):
    """A label: what happened before the claim held; the numbers and letters group faults of a kind."""
    return pytest.mark.fault(number, what)


def expected(item):
    """The mark of a test that is expected to fail; None for the others."""
    found = next((why for end, why in OPEN.items() if item.nodeid.endswith(end)), None)
    return found and pytest.mark.xfail(strict=True, reason=found)
