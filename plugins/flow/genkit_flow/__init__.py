"""Flow maps: where a path of the flow is at another level, and the sampler that jumps along it."""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_parameterization() -> Offer:
    return {
        "flow": lazy(
            "genkit_flow.parameterization:Flow",
            "The network is a velocity along (1 - t) x0 + t eps, t = sigma / (1 + sigma).",
        )
    }


@hookimpl
def genkit_sampler() -> Offer:
    return {
        "flow-map": lazy("genkit_flow.sampler:FlowMap", "Jumps from level to level down to 0, with new noise if asked.")
    }
