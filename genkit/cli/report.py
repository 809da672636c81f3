"""`genkit report`."""

from __future__ import annotations

from typing import Annotated

import typer


def report(
    run: Annotated[str, typer.Argument(help="A run: folder, name, beginning of its id, or latest.")] = "latest",
) -> None:
    """Write the report of a run again."""
    from genkit import record
    from genkit import report as page

    print(page.write(record.find(run)))
