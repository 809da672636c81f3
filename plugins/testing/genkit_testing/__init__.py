"""The laws of components, for the tests of plugins (`from genkit.testing import laws`), and before a run is begun."""

from typing import Any

from genkit.hookspecs import hookimpl

GENKIT_API = 1


@hookimpl
def genkit_try(planned: Any) -> None:
    from genkit_testing import tryout

    tryout.check(planned)
