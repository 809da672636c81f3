"""`genkit plugins`."""

from __future__ import annotations

import typer

from genkit.cli import show
from genkit.cli.options import Json

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _plugins() -> None:
    """What is installed, and whether it works."""


@app.command("list")
def list_(json: Json = False) -> None:
    """Plugins with their states."""
    from genkit.kernel import discovery

    found = discovery.installed().all
    if json:
        show.as_json([plugin._asdict() for plugin in found])
    else:
        rows = [[p.name, p.distribution, p.version, p.state, p.why] for p in found]
        show.table([["plugin", "from", "version", "state", "why"], *rows])
