"""trackio as a tracker."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_tracker():
    return {"trackio": lazy("genkit_trackio.tracker:Trackio", "Curves, figures and pictures for trackio.")}
