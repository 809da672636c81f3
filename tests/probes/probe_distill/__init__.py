"""Consistency distillation from a toy diffusion model: objective, parameterization, sampler, and path `toy-ode`."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_objective():
    return {"toy-diffusion": lazy("probe_distill.parts:Diffusion", "Denoising at lognormal levels.")}


@hookimpl
def genkit_parameterization():
    return {"toy-edm": lazy("probe_distill.parts:Edm", "EDM's scalings.")}


@hookimpl
def genkit_sampler():
    return {"toy-euler": lazy("probe_distill.parts:Euler", "Euler steps down the Karras grid.")}


@hookimpl
def genkit_path():
    return {"toy-ode": lazy("probe_distill.parts:Ode", "An Euler step of a diffusion model from t to r.")}
