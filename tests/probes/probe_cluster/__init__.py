"""A cluster that outlives whoever submits to it, as its folder `cluster` has it, and fails as it is told."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_launcher():
    return {"cluster": lazy("probe_cluster.launcher:Cluster", "A forked process for each job, known by a folder.")}
