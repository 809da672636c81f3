"""Which fault a claim was made for, and the claims that do not hold yet."""

from pathlib import Path

import pytest

OPEN = {line for line in Path(__file__).with_name("open.txt").read_text().splitlines() if not line.startswith("#")}


def point(number, what):
    """A label: what happened before the claim held; the numbers and letters group faults of a kind."""
    return pytest.mark.fault(number, what)


def is_open(item):
    """Whether a test is on the list of those that do not hold yet."""
    return item.nodeid.rpartition("faults/")[2] in OPEN
