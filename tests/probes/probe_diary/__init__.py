"""A tracker that writes down all that it is told."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_tracker():
    return {"diary": lazy("probe_diary.diary:Diary", "All that it is told, as lines of JSON.")}
