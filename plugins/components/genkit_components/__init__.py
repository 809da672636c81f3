"""What recipes can be made of: `genkit components`."""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_commands() -> Offer:
    return {
        "components": lazy("genkit_components.commands:app", "What recipes can be made of."),
        "recipe": lazy("genkit_components.recipes:app", "Check, show, compare, list and copy recipes."),
        "recipe schema": lazy("genkit_components.schema:schema", "What editors need to complete and check recipes."),
        "plugins index": lazy("genkit_components.index:index", "What distributions are known to offer."),
    }
