"""Continuous-time consistency models (sCM): training from data (sCT) and from a diffusion model (sCD), and TrigFlow."""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_objective() -> Offer:
    return {
        "scm": lazy("genkit_scm.objective:Scm", "Continuous-time consistency: f moves against its change along a path.")
    }


@hookimpl
def genkit_parameterization() -> Offer:
    return {"trigflow": lazy("genkit_scm.parameterization:TrigFlow", "TrigFlow's scalings, with the angle as c_noise.")}
