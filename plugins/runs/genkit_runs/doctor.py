"""`genkit doctor`: whether runs will do well here, and what to do where they will not.

A check is a function that yields findings (`findings.py`); `CHECKS` has them all. One that fails is a finding itself,
and so is one that cannot be imported, as where torch is broken.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import attrs

from genkit.cli import show
from genkit.cli.options import Json
from genkit_runs import findings, selftest
from genkit_runs.findings import Finding

CHECKS = {
    "versions": "checks_software:versions",
    "distributions": "checks_software:distributions",
    "plugins": "checks_software:plugins",
    "environment": "checks_software:variables",
    "limits": "checks_machine:limits",
    "processes": "checks_machine:processes",
    "working directory": "checks_machine:here",
    "self-test": "selftest:selftest",  # in a process of its own; what comes after it imports torch in this one
    "components": "checks_software:components",
    "processors": "checks_machine:processors",
    "cards": "checks_machine:cards",
    "cache": "checks_places:cache",
    "store of runs": "checks_store:disk_of_runs",
    "runs": "checks_store:runs",
}
ENDS = ("working directory", selftest.TORCH)  # without these, torch would end this process, or nothing more works


def examined() -> list[Finding]:
    """All that is found."""
    found: list[Finding] = []
    for about, target in CHECKS.items():
        found += findings.of(about, _carried_out, target)
        if any(f.about in ENDS and f.state == "problem" for f in found):
            break
    return found


def _carried_out(target: str) -> Iterator[Finding]:
    module, _, name = target.partition(":")
    yield from getattr(importlib.import_module(f"genkit_runs.{module}"), name)()


def doctor(json: Json = False) -> None:
    """Whether all is well here, and what to do where it is not.

    Looks at versions, plugins, devices, limits, folders and runs, and trains a tiny recipe for a moment. Leaves with 1
    where there is a problem; a note is worth knowing, and no problem.
    """
    found = examined()
    problems, notes = (sum(f.state == state for f in found) for state in ("problem", "note"))
    if json:
        show.as_json({"healthy": not problems, "findings": [attrs.asdict(f) for f in found]})
    else:
        show.table([["", "about", "found, and what to do"], *([f.state, f.about, str(f)] for f in found)])
        show.say(f"{problems} problem{'s' * (problems != 1)}, {notes} note{'s' * (notes != 1)}")
    if problems:
        raise SystemExit(1)
