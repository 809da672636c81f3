"""A teacher that answers from frozen weights below a level, as truncated consistency models do."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_teacher():
    return {
        "frozen-below": lazy("probe_truncated.parts:FrozenBelow", "Frozen weights below a level, the student's above.")
    }
