"""The store of runs: `genkit runs`, what has been run, in what runs differ, and what of them can go."""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_commands() -> Offer:
    return {"runs": lazy("genkit_runs.commands:app", "What has been run.")}
