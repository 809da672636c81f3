"""Diffusion models after EDM: the objective, its samplers, and the path that distils them."""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_objective() -> Offer:
    return {
        "diffusion": lazy(
            "genkit_diffusion.objective:Diffusion",
            "Denoising lambda(sigma) |D(x0 + sigma eps, sigma) - x0|^2 at levels of a continuous law.",
        )
    }


@hookimpl
def genkit_parameterization() -> Offer:
    return {
        "edm": lazy("genkit_diffusion.parameterization:Edm", "EDM's scalings: inputs and targets of unit variance.")
    }


@hookimpl
def genkit_weighting() -> Offer:
    return {
        "edm": lazy(
            "genkit_diffusion.weighting:Edm", "lambda = (t^2 + sigma_data^2) / (t sigma_data)^2: every level alike."
        )
    }


@hookimpl
def genkit_sampler() -> Offer:
    return {
        "heun": lazy("genkit_diffusion.samplers:Heun", "Heun's steps down the Karras grid, with churn if asked."),
        "euler": lazy("genkit_diffusion.samplers:Euler", "Euler's steps down the Karras grid."),
        "guided": lazy(
            "genkit_diffusion.guidance:Guided",
            "Guidance around any sampler of a model with classes: D(x; null) + w (D(x; label) - D(x; null)).",
        ),
    }


@hookimpl
def genkit_path() -> Offer:
    return {
        "ode": lazy(
            "genkit_diffusion.paths:Ode",
            "A solver's step of a trained diffusion model from t to r: consistency distillation.",
        )
    }
