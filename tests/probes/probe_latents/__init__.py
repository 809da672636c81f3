"""A data set of float32 latents with labels, for models with a null class."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_dataset():
    return {"toy-latents": lazy("probe_latents.parts:Latents", "Float32 latents whose mean tells their class.")}
