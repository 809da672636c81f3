"""Reports: every run on one offline page, charts, and `genkit report`."""

from pathlib import Path

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_report(folder: Path) -> Path:
    from genkit_reports import page

    return page.write(folder)


@hookimpl
def genkit_commands() -> Offer:
    return {"report": lazy("genkit_reports.commands:report", "Write the report of a run again.")}
