"""Public files that components need, and weights from elsewhere: `genkit weights`."""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_commands() -> Offer:
    return {
        "weights": lazy("genkit_weights.commands:app", "Public files that plugins need, and weights from elsewhere.")
    }
