"""What a check of `genkit doctor` finds, and how a check is carried out that may fail itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs


@attrs.frozen
class Finding:
    """One thing that was looked at.

    Attributes:
        state: ok, note or problem.
        about: What was looked at.
        found: How it is, with its value.
        do: What to do about it; empty if it is ok.
    """

    state: str
    about: str
    found: str
    do: str = ""

    def __str__(self) -> str:
        return f"{self.found}; {self.do}" if self.do else self.found


def ok(about: str, found: str) -> Finding:
    return Finding("ok", about, found)


def note(about: str, found: str, do: str) -> Finding:
    return Finding("note", about, found, do)


def problem(about: str, found: str, do: str) -> Finding:
    return Finding("problem", about, found, do)


def of(about: str, check: Callable[..., Iterable[Finding]], *given: Any) -> list[Finding]:
    """What a check finds; that it fails is a finding, too, beside those that it had until then."""
    found: list[Finding] = []
    try:
        found.extend(check(*given))
    except (Exception, SystemExit) as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        found.append(problem(about, f"cannot be looked at ({cause})", "mend that, or tell it to genkit's authors"))
    return found


def size(bytes_: float) -> str:
    unit, name = next((pair for pair in ((1e9, "GB"), (1e6, "MB")) if bytes_ >= pair[0] / 10), (1e3, "kB"))
    return f"{bytes_ / unit:.1f} {name}"
