"""Consistency models: the objective, its parameterization, the path of training, the sampler, and editing."""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_objective() -> Offer:
    return {
        "consistency": lazy(
            "genkit_consistency.objective:Consistency",
            "Consistency matching lambda(t, r) d(f(x_t, t), f(x_r, r)) at neighbouring levels r < t.",
        )
    }


@hookimpl
def genkit_parameterization() -> Offer:
    return {
        "boundary": lazy(
            "genkit_consistency.parameterization:Boundary",
            "Scalings with f(x, sigma_min) = x exactly.",
        ),
        "point": lazy(
            "genkit_consistency.parameterization:Point",
            "Scalings with which f is exact for data at one point, where F is that point.",
        ),
    }


@hookimpl
def genkit_pairs() -> Offer:
    return {
        "grid": lazy("genkit_consistency.pairs:Grid", "Neighbours on the Karras grid of N(k) levels, by the noise law.")
    }


@hookimpl
def genkit_path() -> Offer:
    return {"same-noise": lazy("genkit_consistency.paths:SameNoise", "x_r = x0 + r eps: consistency training.")}


@hookimpl
def genkit_sampler() -> Offer:
    return {
        "consistency": lazy(
            "genkit_consistency.sampler:Multistep", "One step from noise to data, then noise again and a step each."
        )
    }


@hookimpl
def genkit_commands() -> Offer:
    return {
        "search-steps": lazy(
            "genkit_consistency.commands:search_steps", "Search the levels of further sampling steps."
        ),
        "edit": lazy("genkit_consistency.commands:edit", "Edit pictures with a model that was never trained for it."),
    }
