"""`genkit components`."""

from __future__ import annotations

from typing import Annotated

import typer

from genkit.cli import show
from genkit.cli.options import Json

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _components() -> None:
    """What recipes can be made of."""


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(help="Only this kind.")] = None,
    json: Json = False,
) -> None:
    """Components by kind; none is imported."""
    from genkit.kernel import registry

    if kind:
        registry.require_kind(kind)
    found = [(k, name, info) for (k, name), info in registry.components().items() if kind in (None, k)]
    if json:
        show.as_json([{"use": name, **info._asdict()} for _, name, info in found])
    else:
        show.table([["kind", "name", "what", "from"], *([k, n, i.summary, i.distribution] for k, n, i in found)])


@app.command("show")
def show_(
    name: Annotated[str, typer.Argument(help="A name, or a kind and a name where several kinds have it.")],
    of: Annotated[str | None, typer.Argument(metavar="[NAME]", show_default=False)] = None,
) -> None:
    """A component's text, and its table with all defaults, to paste into a recipe."""
    import inspect

    from genkit.errors import RecipeError
    from genkit.kernel import registry
    from genkit.kinds import closest
    from genkit_components import defaults

    name = f"{name}/{of}" if of else name
    kind, _, bare = name.rpartition("/")
    found = [i for (k, n), i in registry.components().items() if n in (bare, name) and kind in ("", k, i.distribution)]
    if not found:
        hint = closest(bare, {n for _, n in registry.components()}, "`genkit components list` shows all")
        raise RecipeError("component", f"no component named {name!r}", hint)
    for info in found:
        print(f"{info.kind} {info.name}   ({info.qualified} {info.version})\n")
        print(inspect.getdoc(registry.load(info)) or "", "\n")
        print(defaults.table_of(info))
