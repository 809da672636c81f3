"""`genkit components`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genkit.cli import show
from genkit.cli.options import Json

if TYPE_CHECKING:
    from genkit.kernel.registry import ComponentInfo

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
    name: Annotated[str, typer.Argument(help="A name; a kind and a name, or a file and its class, FILE.py:CLASS.")],
    of: Annotated[str | None, typer.Argument(metavar="[NAME]", show_default=False)] = None,
) -> None:
    """A component's text, and its table with all defaults, to paste into a recipe."""
    import inspect

    from genkit.kernel import registry
    from genkit_components import defaults

    for use, info in _of_file(name, of) or _named(f"{name}/{of}" if of else name):
        print(f"{info.kind} {use}   ({' '.join(filter(None, (info.qualified, info.version)))})\n")
        print(inspect.getdoc(registry.load(info)) or "", "\n")
        print(defaults.table_of(info, use))


def _named(name: str) -> list[tuple[str, ComponentInfo]]:
    """The components of a name, of a kind and a name, or of a distribution and a name, as recipes call them.

    Raises:
        RecipeError: There is none.
    """
    from genkit.errors import RecipeError
    from genkit.kernel import registry
    from genkit.kinds import closest

    kind, _, bare = name.rpartition("/")
    known = registry.components()
    found = [(n, i) for (k, n), i in known.items() if n in (bare, name) and kind in ("", k, i.distribution)]
    if not found:
        hint = closest(bare, {n for _, n in known}, "`genkit components list` shows all")
        raise RecipeError("component", f"no component named {name!r}", hint)
    return found


def _of_file(kind: str, use: str | None) -> list[tuple[str, ComponentInfo]]:
    """The component of a file, `loss ./my_loss.py:Cauchy`, if that is what is meant.

    Raises:
        RecipeError: The kind is missing.
    """
    from genkit.errors import RecipeError
    from genkit.kernel import discovery, registry

    if use is None:
        if ".py:" in kind:
            raise RecipeError("component", f"{kind} is of no kind", f"name it: genkit components show loss {kind}")
        return []
    if ".py:" in use:
        registry.require_kind(kind)
    asked = {"kind": kind, "use": use, "where": "component", "folder": Path(), "by_hand": True}
    info = discovery.installed().manager.hook.genkit_find(**asked)
    return [(use, info)] if info else []
