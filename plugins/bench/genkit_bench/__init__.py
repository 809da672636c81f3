"""What a training step costs: `genkit bench`."""

from typing import Any

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_commands() -> Offer:
    return {
        "bench": lazy("genkit_bench.commands:bench", "What a training step costs, beside its network's own passes.")
    }


@hookimpl
def genkit_step_seconds(planned: Any) -> float:
    from genkit_bench import measuring

    return measuring.step_seconds(planned)
