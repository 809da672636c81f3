"""`genkit data`."""

from __future__ import annotations

from typing import Annotated

import typer

from genkit.cli import show
from genkit.cli.run import Json

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _data() -> None:
    """Look at data sets."""


@app.command()
def info(
    dataset: Annotated[str, typer.Argument(help="A data set, such as digits.")],
    settings: Annotated[list[str] | None, typer.Argument(help="key=value ...", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Size, shape, range and identity of a data set."""
    import attrs

    from genkit import registry, tables
    from genkit.kinds import Setup

    given = tables.override(tables.Layers({}, tables.Places(), set()), [f"dataset.{s}" for s in settings or []])
    data = registry.build(registry.component("dataset", dataset, **given.tree.get("dataset", {})), Setup())
    sample = data.batch(_indices(min(len(data), 10_000)), _key())
    x = sample.x.float() / 127.5 - 1 if data.spec.dtype == "uint8" else sample.x
    found = {
        "samples": len(data),
        "held out": len(data.held_out) if data.held_out else 0,
        **attrs.asdict(data.spec),
        "mean": round(x.mean().item(), 4),
        "std": round(x.std().item(), 4),
        "identity": data.identity,
    }
    show.as_json(found) if json else show.table([["", dataset], *([k, str(v)] for k, v in found.items())])


def _indices(count: int) -> object:
    import torch

    return torch.arange(count)


def _key() -> object:
    from genkit.keys import Key

    return Key(0)
