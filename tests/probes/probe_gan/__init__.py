"""A GAN: two networks, two optimizers, two phases a step."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_objective():
    return {"toy-gan": lazy("probe_gan.parts:Gan", "Non-saturating GAN with a gradient penalty on data.")}


@hookimpl
def genkit_parameterization():
    return {"plain": lazy("probe_gan.parts:Plain", "The network's output as it is.")}


@hookimpl
def genkit_sampler():
    return {"generator": lazy("probe_gan.parts:Generator", "One call on noise.")}
