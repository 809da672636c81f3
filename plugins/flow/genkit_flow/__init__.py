"""Flow matching, and flow maps: models that jump from a noisy sample to any lower level."""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_objective() -> Offer:
    return {
        "meanflow": lazy("genkit_flow.meanflow:MeanFlow", "Average velocities: u(z, r, t) towards v - (t - r) du/dt."),
        "imf": lazy(
            "genkit_flow.imf:ImprovedMeanFlow",
            "MeanFlow as a regression on v: V = u(z, r, t) + (t - r) du/dt towards v = eps - x0.",
        ),
        "alpha-flow": lazy(
            "genkit_flow.alphaflow:AlphaFlow",
            "MeanFlow reached by steps: u(z, r, t) towards alpha v + (1 - alpha) u(z - alpha (t - r) v, r, m).",
        ),
        "shortcut": lazy(
            "genkit_flow.shortcut:Shortcut",
            "Shortcut models: a step of length d towards what two steps of length d / 2 come to.",
        ),
    }


@hookimpl
def genkit_parameterization() -> Offer:
    summary = "The network is a velocity along (1 - t) x0 + t eps, t = sigma / (1 + sigma)."
    return {"flow": lazy("genkit_flow.parameterization:Flow", summary)}


@hookimpl
def genkit_loss() -> Offer:
    summary = "Squared distance of the image over its own value to a power: q / (q + eps)^p."
    return {"adaptive": lazy("genkit_flow.losses:Adaptive", summary)}


@hookimpl
def genkit_weighting() -> Offer:
    summary = "lambda = ((1 + sigma) / sigma)^2 = 1 / t^2: what denoising counts as an error of velocity."
    return {"velocity": lazy("genkit_flow.weighting:Velocity", summary)}


@hookimpl
def genkit_sampler() -> Offer:
    summary = "Jumps from level to level down to 0, with new noise if asked."
    return {"flow-map": lazy("genkit_flow.sampler:FlowMap", summary)}
