"""`genkit report`."""

from __future__ import annotations

from typing import Annotated

import typer


def report(
    run: Annotated[str, typer.Argument(help="A run: folder, name, beginning of its id, or latest.")] = "latest",
) -> None:
    """Write the report of a run again."""
    from genkit.runs import store
    from genkit_reports import page

    print(page.write(store.find(run)))
