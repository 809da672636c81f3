"""Couplings of data and noise: none, minibatch optimal transport, and one that is learnt."""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_coupling() -> Offer:
    return {
        "independent": lazy("genkit_coupling.independent:Independent", "Noise that knows nothing of its sample."),
        "optimal-transport": lazy(
            "genkit_coupling.transport:OptimalTransport", "The noise of a batch, dealt out so that it is moved least."
        ),
        "variational": lazy(
            "genkit_coupling.variational:Variational",
            "Noise mu(x0) + s(x0) eps by an encoder, at the price of its divergence from N(0, I).",
        ),
    }
