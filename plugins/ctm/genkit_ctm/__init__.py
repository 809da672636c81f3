"""Consistency trajectory models (CTM): the objective, its scalings, and a path that needs no diffusion model."""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_objective() -> Offer:
    return {
        "ctm": lazy("genkit_ctm.objective:Ctm", "Jumps G(x, t, s) that agree with those from further down the path.")
    }


@hookimpl
def genkit_parameterization() -> Offer:
    return {"ctm": lazy("genkit_ctm.parameterization:Ctm", "Jumps (s/t) x + (1 - s/t) g, with EDM's scalings in g.")}


@hookimpl
def genkit_path() -> Offer:
    return {
        "own-ode": lazy("genkit_ctm.paths:OwnOde", "A solver's step along the student's own ODE, by its g(x, t, t).")
    }
