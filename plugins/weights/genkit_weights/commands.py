"""`genkit weights`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genkit.cli import show
from genkit.cli.options import Json

if TYPE_CHECKING:
    from genkit.data import PublicFile

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _weights() -> None:
    """Public files that plugins need, and weights from elsewhere."""


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Files that plugins need, and where they are."""
    import attrs

    from genkit.data import files

    found = {
        name: {**attrs.asdict(file), "path": str(files.present(file) or "")} for name, file in files.offered().items()
    }
    if as_json:
        show.as_json(found)
    else:
        rows = [[n, f"{f['size'] / 1e6:.1f} MB", f["path"] or "not here", f["about"]] for n, f in found.items()]
        show.table([["file", "size", "where", "what"], *rows])


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A published file.")],
    target: Annotated[Path, typer.Argument(help="Where to write, ending in .safetensors.")],
    form: Annotated[str, typer.Option("--as", help="What it is: edm, ect, openai-cm, or what a plugin adds.")],
) -> None:
    """Read published weights, executing nothing in them, and write them as safetensors."""
    from genkit_weights import convert as converting

    told = converting.convert(source, target, form)
    print(f"# {target}: start from it with these settings and [init] from = {json.dumps(str(target))}")
    print(converting.recipe_of(told), end="")


@app.command()
def info(file: Annotated[Path, typer.Argument(help="A .safetensors file.")], as_json: Json = False) -> None:
    """What a file of weights holds, and which network it is for."""
    from genkit.data import weights
    from genkit_weights.convert import recipe_of

    found = weights.info(file)
    if as_json:
        show.as_json(found)
        return
    apart = ("network", "tables", "recipe")
    show.table([["", str(file)], *([name, str(value)] for name, value in found.items() if name not in apart)])
    print(recipe_of(found), end="")


@app.command()
def fetch(names: Annotated[list[str], typer.Argument(help="Files, as `genkit weights list` names them.")]) -> None:
    """Download files into the cache, if they are nowhere yet, and verify them."""
    from genkit.data import files

    for file in [_pick(name) for name in names]:
        print(files.locate(file))


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="All that are here, if none is named.")] = None,
) -> None:
    """Read files again and compare their SHA-256 with the published ones."""
    from genkit.data import files
    from genkit.errors import DataError

    chosen = {name: _pick(name) for name in names} if names else files.offered()
    there = {name: path for name, file in chosen.items() if (path := files.present(file))}
    if absent := [name for name in names or [] if name not in there]:
        raise DataError(absent[0], "is not here", f"genkit weights fetch {absent[0]}")
    wrong = []
    for name, path in there.items():
        try:
            files.verify(chosen[name], path, anew=True)
            print(f"{name}: as published ({path})")
        except DataError as error:
            wrong.append(error)
    for damaged in wrong[:-1]:
        show.say(f"genkit: {damaged}")
    if wrong:
        raise wrong[-1]


def _pick(name: str) -> PublicFile:
    """An offered file by its name.

    Raises:
        RecipeError: No plugin offers it.
    """
    from genkit.data import files
    from genkit.errors import RecipeError
    from genkit.kinds import names

    if name not in (there := files.offered()):
        raise RecipeError(name, "no plugin offers such a file", f"there are {names(there)}")
    return there[name]
