"""What recipes can be made of: `genkit components`."""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_commands() -> Offer:
    return {
        "components": lazy("genkit_components.commands:app", "What recipes can be made of."),
        "plugins index": lazy("genkit_components.index:print_index", "What distributions are known to offer."),
    }
