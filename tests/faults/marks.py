"""The marks of claims that do not hold yet: who makes one hold takes its mark away."""

import pytest


def point(number, what):
    """Of a point of the list that this suite was made for; or of a letter, for what the suite itself has found."""
    where = f"issue point {number}" if isinstance(number, int) else f"beyond the issue, {number}"
    return pytest.mark.xfail(strict=True, reason=f"{where}: {what}")
