"""SLURM: jobs as arrays of sbatch.

Read `launcher`: what can be set, and what sbatch, squeue and scancel are asked; `script` is what a node runs.
"""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_launcher() -> Offer:
    return {"slurm": lazy("genkit_slurm.launcher:Slurm", "Jobs of a SLURM cluster, as arrays.")}
