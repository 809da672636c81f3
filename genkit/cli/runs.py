"""`genkit runs`."""

from __future__ import annotations

import typer

from genkit.cli import show
from genkit.cli.run import Json

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _runs() -> None:
    """What has been run."""


@app.command("list")
def list_(json: Json = False) -> None:
    """Runs, newest first."""
    import attrs

    from genkit import record

    found = record.runs()
    if json:
        show.as_json([attrs.asdict(summary) for summary in found])
        return
    rows = [["run", "state", "step", "figures"]]
    for s in found:
        flat = record.figures_of({"steps": {n: {"figures": f} for n, f in s.figures.items()}})
        shown = "  ".join(f"{name} {value:.3g}" for name, value in flat.items() if "floor" not in name)
        rows.append([s.folder.name, s.state, f"{s.k}/{s.steps}", shown])
    show.table(rows)
    if not found:
        show.say(f"no runs in {record.root()}: `genkit run ict_digits` makes one")
