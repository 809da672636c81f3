"""The laws of components, for the tests of plugins (`from genkit.testing import laws`), and before a run is begun."""

from typing import Any

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_try(planned: Any) -> None:
    from genkit_testing import tryout

    tryout.check(planned)


@hookimpl
def genkit_commands() -> Offer:
    return {
        "plugins new": lazy("genkit_testing.new:new", "A new plugin in a folder of its own."),
        "plugins check": lazy("genkit_testing.checking:check", "Hold a plugin against all that it owes."),
    }
