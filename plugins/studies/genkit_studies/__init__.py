"""Studies: a recipe against itself with components swapped, over seeds, and what the differences are worth.

Read `designs` first (a question becomes arms), then `planning` (arms become trials), `running` (trials run where there
is a slot) and `comparison` (what they came to).
"""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_commands() -> Offer:
    return {
        "estimate": lazy("genkit_studies.commands:estimate", "Try a recipe, and say how long a run of it will take."),
        "ablate": lazy("genkit_studies.commands:ablate", "Run a recipe again with components swapped, and compare."),
    }


@hookimpl
def genkit_html(result: object) -> str | None:
    from genkit_studies import study, telling

    return telling.html(result) if isinstance(result, study.Study) else None


@hookimpl
def genkit_launcher() -> Offer:
    return {"local": lazy("genkit_studies.pool:Local", "Processes of this machine, which have everything imported.")}
