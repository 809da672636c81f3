"""MeanFlow: a network of two times, a Jacobian-vector product, and a learned weighting."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_objective():
    return {"toy-meanflow": lazy("probe_meanflow.parts:MeanFlow", "Average velocities u(z, t, r) by their identity.")}


@hookimpl
def genkit_parameterization():
    return {"average-velocity": lazy("probe_meanflow.parts:AverageVelocity", "z_r = z_t - (t - r) u(z_t, t, r).")}


@hookimpl
def genkit_sampler():
    return {"one-jump": lazy("probe_meanflow.parts:OneJump", "From t = 1 to r = 0 at once.")}
