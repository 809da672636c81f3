"""A loss that goes wrong at a step, as the file `trouble` in the working directory says."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_loss():
    return {"fragile": lazy("probe_fragile.losses:Fragile", "Squared l2, until there is trouble.")}
