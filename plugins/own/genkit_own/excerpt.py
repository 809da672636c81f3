"""The source of a class with all that it refers to, so that it can be run on its own.

A cell of a notebook seldom has the imports that its class needs, and a script does more than to define it. So what is
kept is the class, and of each global name that it mentions: an import, where an installed module has it; the
definition, where it is a function or a class without a package; else its value, where that is a plain one, such as a
number.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import linecache
import symtable
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from genkit.errors import RecipeError


class Excerpt(NamedTuple):
    """What is found so far: imports, and definitions in an order in which they can be run, by the names they bind."""

    where: str
    imports: dict[str, str]
    definitions: dict[str, str]
    values: dict[str, Any]


def of(cls: type, where: str) -> str:
    """Python that defines a class as it is now.

    Raises:
        RecipeError: Its source, or that of something it mentions, is not to be had.
    """
    found = Excerpt(where, {}, {}, {})
    _define(found, cls.__name__, cls)
    return "\n".join([*sorted(found.imports.values()), ""]) + "".join(f"\n\n{d}\n" for d in found.definitions.values())


def _define(found: Excerpt, name: str, value: Any) -> None:
    """Add the definition of a class or function, after those of what it mentions."""
    if "<locals>" in value.__qualname__ or "." in value.__qualname__:
        hint = "define it at the top of a cell or a file"
        raise RecipeError(found.where, f"{name} is defined within another function or class", hint)
    found.definitions[name] = ""  # its turn is later, and who mentions it in a circle need not ask again
    text, scope, future = _source(found, name, value)
    if future:
        found.imports["annotations"] = "from __future__ import annotations"
    for mentioned in sorted(_mentioned(text) - {name}):
        if mentioned in scope:
            _add(found, mentioned, scope[mentioned])
        elif not hasattr(builtins, mentioned):
            raise RecipeError(found.where, f"{name} mentions {mentioned!r}, which is not defined", "define it before")
    del found.definitions[name]
    found.definitions[name] = text


def _add(found: Excerpt, name: str, value: Any) -> None:
    """Add what binds a name to a value."""
    if name in found.values:
        if found.values[name] is not value:
            what = f"{name!r} is one thing in one module, and another in another"
            raise RecipeError(found.where, what, "give one of them another name")
        return
    found.values[name] = value
    if line := _imported(name, value):
        found.imports[name] = line
    elif isinstance(value, type | FunctionType):
        own = getattr(value, "__name__", name)
        _define(found, name if own in (name, "<lambda>") else own, value)
        if own not in (name, "<lambda>"):
            found.definitions[name] = f"{name} = {own}"
    elif _is_plain(value):
        found.definitions[name] = f"{name} = {value!r}"
    elif isinstance(value, ModuleType):
        hint = f"write `from {value.__name__} import` what you use of it, or install it"
        raise RecipeError(found.where, f"mentions {name!r}, a module that is not installed", hint)
    else:
        hint = "make it within the class, or give it as a setting"
        raise RecipeError(found.where, f"mentions {name!r}, a {type(value).__name__} that has no source", hint)


def _is_plain(value: Any) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False


# ---- source ----------------------------------------------------------------------------------------


def _source(found: Excerpt, name: str, value: Any) -> tuple[str, Mapping[str, Any], bool]:
    """The statement that binds a name, the names that it sees, and whether its annotations stay text."""
    function = value if isinstance(value, FunctionType) else _method(value)
    scope = function.__globals__ if function else vars(sys.modules[value.__module__])
    files = [function.__code__.co_filename] if function else _files(value.__module__)
    texts = ("".join(linecache.getlines(file)) for file in files)
    parsed = ((text, [s for s in _statements(text) if name in _bound(s)]) for text in texts)
    whole, statements = next((pair for pair in parsed if pair[1]), ("", []))
    if not statements:
        hint = "define it in a notebook or a file, not at a prompt or by exec"
        raise RecipeError(found.where, f"the source of {name} is not to be had", hint)
    node = statements[-1]
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
    text = "\n".join(whole.splitlines()[first - 1 : node.end_lineno])
    return text, scope, bool(function and function.__code__.co_flags & 0x1000000)  # CO_FUTURE_ANNOTATIONS


def _method(cls: type) -> FunctionType | None:
    """A function that is written in a class: unlike the class it knows its file, even a notebook's cell."""
    for value in vars(cls).values():
        function = inspect.unwrap(getattr(value, "fget", None) or getattr(value, "__func__", value))
        if not isinstance(function, FunctionType) or function.__code__.co_filename.startswith("<attrs"):
            continue
        if function.__globals__.get("__name__") == cls.__module__:  # unlike what attrs has put there
            return function
    return None


def _files(module: str) -> list[str]:
    """Where a class without methods may be written: in the file of its module, or in a cell, the newest first."""
    file = getattr(sys.modules[module], "__file__", None)
    return [file] if file else [name for name in reversed(linecache.cache) if not Path(name).exists()]


def _statements(text: str) -> list[ast.stmt]:
    with suppress(SyntaxError):  # a file that is no Python has none
        return ast.parse(text).body
    return []


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return {statement.name}
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _mentioned(text: str) -> set[str]:
    """The global names of a definition, those in its annotations among them."""
    annotations = (getattr(n, f, None) for n in ast.walk(ast.parse(text)) for f in ("annotation", "returns"))
    named = {n.id for a in annotations if a for n in ast.walk(a) if isinstance(n, ast.Name)}
    return named | set(_globals(symtable.symtable(text, "definition", "exec")))


def _globals(table: symtable.SymbolTable) -> Iterator[str]:
    """Names that are looked up in the module, here and within; those that the module itself binds are its own."""
    top = table.get_type() == "module"
    yield from (s.get_name() for s in table.get_symbols() if s.is_referenced() and (top or s.is_global()))
    for inner in table.get_children():
        yield from _globals(inner)


# ---- imports -----------------------------------------------------------------------------------------


def _imported(name: str, value: Any) -> str:
    """The import that binds a name to a value of an installed module; empty if there is none."""
    if isinstance(value, ModuleType):
        full = value.__name__
        return (f"import {full}" if full == name else f"import {full} as {name}") if _installed(full) else ""
    for module, attribute in _homes(name, value):
        if _installed(module) and getattr(sys.modules.get(module), attribute, None) is value:
            return f"from {module} import {attribute}" + (f" as {name}" if attribute != name else "")
    return ""


def _homes(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Where a value may come from: where it says itself, or any module that has it by its name."""
    if isinstance(said := getattr(value, "__module__", None), str):
        yield said, getattr(value, "__qualname__", name)
    if not _is_plain(value):
        have = [m for m, module in list(sys.modules.items()) if vars(module).get(name) is value and "._" not in f".{m}"]
        yield from ((module, name) for module in sorted(have, key=lambda m: (m.count("."), m)))


def _installed(module: str) -> bool:
    """Whether a module is Python's own, or of an installed distribution."""
    top = module.partition(".")[0]
    return top in sys.stdlib_module_names - {"__main__"} or top in _distributions()


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()
