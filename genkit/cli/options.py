"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps (untested).")]
Run = Annotated[str, typer.Argument(help="A run: folder, name, beginning of its id, or latest.")]
