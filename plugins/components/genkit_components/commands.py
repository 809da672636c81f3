"""`genkit components`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

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
    name: Annotated[str, typer.Argument(help="A name, or a kind and a name where several kinds have it.")],
    of: Annotated[str | None, typer.Argument(metavar="[NAME]", show_default=False)] = None,
) -> None:
    """A component's text, and a table to paste into a recipe."""
    import inspect

    from genkit.errors import RecipeError
    from genkit.kernel import registry
    from genkit.kinds import closest

    name = f"{name}/{of}" if of else name
    kind, _, bare = name.rpartition("/")
    found = [i for (k, n), i in registry.components().items() if n in (bare, name) and kind in ("", k, i.distribution)]
    if not found:
        hint = closest(bare, {n for _, n in registry.components()}, "`genkit components list` shows all")
        raise RecipeError("component", f"no component named {name!r}", hint)
    for info in found:
        print(f"{info.kind} {info.name}   ({info.qualified} {info.version})\n")
        print(inspect.getdoc(registry.load(info)) or "", "\n")
        print(_paste(info))


def _paste(info: ComponentInfo) -> str:

    lines = [f"[{info.kind}]", f'use = "{info.name}"']
    for name, (kind, default, text) in _described(info).items():
        lines.append(f"{_setting(name, kind, default)}    # {text}".rstrip(" #"))
    return "\n".join(lines) + "\n"


def _setting(name: str, kind: object, default: object) -> str:
    import attrs
    import tomli_w

    if str(kind).startswith("slot"):
        return f'{name} = "{default}"' if default else f"# {name} = ...  ({kind}, needed)"
    if default is attrs.NOTHING:
        return f"# {name} = ...  (needed)"
    if default is None or isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return f"# {name} = ..."
    value = list(default) if isinstance(default, tuple) else default
    return tomli_w.dumps({name: value}).strip().replace("\n", " ")


def _described(info: ComponentInfo) -> dict[str, tuple[Any, Any, str]]:
    """A component's fields for people: {name: (type, default, help)}."""
    from genkit.kernel import registry
    from genkit.kinds import fields

    table = {}
    for name, field in fields(registry.load(info)):
        default = field.metadata["use"] if "slot" in field.metadata else field.default
        kind = f"slot: {field.metadata['slot']}" if "slot" in field.metadata else field.type
        table[name] = (kind, default, field.metadata.get("help", ""))
    return table
