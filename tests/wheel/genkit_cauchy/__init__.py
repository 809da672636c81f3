"""The Cauchy loss."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_loss():
    return {"cauchy": lazy("genkit_cauchy.losses:Cauchy", "Cauchy loss log(1 + |x - y|^2 / (2 c^2)).")}
