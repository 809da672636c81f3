"""Reports: every run on one offline page, charts, and `genkit report`."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_report(folder):
    from genkit_reports import page

    return page.write(folder)


@hookimpl
def genkit_commands():
    return {"report": lazy("genkit_reports.commands:report", "Write the report of a run again.")}
