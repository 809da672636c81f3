"""The store of runs: `genkit runs`, what has been run, in what runs differ, and what of them can go.

And `genkit doctor`: whether runs will do well here."""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_commands() -> Offer:
    return {
        "runs": lazy("genkit_runs.commands:app", "What has been run."),
        "doctor": lazy("genkit_runs.doctor:doctor", "Whether all is well here, and what to do where it is not."),
    }
