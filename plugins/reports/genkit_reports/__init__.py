"""Reports: every run on one offline page, charts, `genkit report`, progress, and what a notebook shows."""

from pathlib import Path

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_report(folder: Path) -> Path:
    from genkit_reports import page

    return page.write(folder)


@hookimpl
def genkit_progress(stream):  # type: ignore[no-untyped-def]
    from genkit_reports import live

    return live.progress(stream)


@hookimpl
def genkit_html(result: object) -> str | None:
    from genkit import RunResult
    from genkit_reports import notebook

    return notebook.of_result(result) if isinstance(result, RunResult) else None


@hookimpl
def genkit_commands() -> Offer:
    return {"report": lazy("genkit_reports.commands:report", "Write the report of a run again.")}
