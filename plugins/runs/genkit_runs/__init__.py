"""What is done with runs that are there: `genkit sample` draws from one; `genkit runs` lists, compares and tidies them.

And `genkit doctor`: whether runs will do well here."""

from pathlib import Path
from typing import Any

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_notes(planned: Any, training: bool) -> list[str]:
    from genkit_runs import shorter

    return shorter.told(planned) if training else []


@hookimpl
def genkit_lease(path: Path) -> Any:
    from genkit_runs import leases

    return leases.lease(path)


@hookimpl
def genkit_commands() -> Offer:
    return {
        "sample": lazy("genkit_runs.sample:sample", "Draw samples of a run."),
        "runs": lazy("genkit_runs.commands:app", "What has been run."),
        "doctor": lazy("genkit_runs.doctor:doctor", "Whether all is well here, and what to do where it is not."),
    }
