"""`genkit report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[str, typer.Argument(help="A run: folder, name, beginning of its id, or latest.")] = "latest",
    out: Annotated[Path | None, typer.Option(help="Where to; report.html of the run if not given.")] = None,
) -> None:
    """Write the report of a run again, into its folder or elsewhere."""
    from genkit.runs import store
    from genkit_reports import page

    print(page.write(store.find(run), out))
