"""Weights & Biases as a tracker."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_tracker():
    return {"wandb": lazy("genkit_wandb.tracker:Wandb", "Curves, figures and pictures for Weights & Biases.")}
