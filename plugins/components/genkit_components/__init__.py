"""What recipes can be made of: `genkit components`."""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_commands() -> Offer:
    return {
        "components": lazy("genkit_components.commands:app", "What recipes can be made of."),
        "recipe show": lazy("genkit_components.recipes:show_", "The resolved recipe."),
        "recipe list": lazy("genkit_components.recipes:list_", "Installed recipes."),
        "recipe copy": lazy("genkit_components.recipes:copy", "A recipe as one flattened file of one's own."),
        "plugins index": lazy("genkit_components.index:index", "What distributions are known to offer."),
    }
