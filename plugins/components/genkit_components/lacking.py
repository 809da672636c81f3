"""What a run of a recipe needs and that is not here: files that it names, trained models, public files.

A component may have `absent() -> PublicFile | None`: the file that it would download, asked before anything is built.
It raises DataError where what it needs is not here and cannot be downloaded. It speaks for the components in it, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from genkit.data import files
from genkit.errors import DataError, GenkitError
from genkit.kernel.recipe import Recipe
from genkit.kernel.toml import Key
from genkit.kinds import Source, fields


def lacking(recipe: Recipe) -> tuple[list[GenkitError], list[str]]:
    """What would end a run of a recipe, each with its place; and lines on what it would download."""
    problems: list[GenkitError] = []
    downloads: list[str] = []
    for key, part in _parts(recipe):
        for name, field in fields(type(part)):
            path = getattr(part, field.name)
            if isinstance(path, Path) and not path.exists():
                where, hint = recipe.places.where((*key, name)), field.metadata.get("help", "")
                problems.append(DataError(where, f"there is no {path}", hint))
        where = recipe.places.where(key, slot=True)
        try:
            if isinstance(part, Source) and part.origin:
                _require(part)
            if hasattr(part, "absent") and (file := part.absent()):
                downloads.append(f"{where} {files.wanted(file)}")
        except GenkitError as error:
            problems.append(DataError(where, f"{error.where}: {error.what}", error.hint))
    return problems, downloads


def _require(model: Source) -> None:
    """Raises GenkitError for a model that is not here."""
    from genkit.runs import models  # which brings torch

    models.content(model)


def _parts(whole: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """All tables and components of a recipe, with their keys."""
    if isinstance(whole, Mapping):
        for name, part in whole.items():
            yield from _parts(part, (*key, name))
    elif attrs.has(type(whole)):
        yield key, whole
        for name, field in fields(type(whole)):
            if name != "places" and not hasattr(whole, "absent"):
                yield from _parts(getattr(whole, field.name), (*key, name))
