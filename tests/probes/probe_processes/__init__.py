"""A launcher that starts each job as a command of its own, as one for a cluster would."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_launcher():
    return {"processes": lazy("probe_processes.launcher:Processes", "A process for each job, two at a time.")}
