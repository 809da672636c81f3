"""`genkit.register`: a class of a notebook or a script as a component."""

from __future__ import annotations

import attrs

from genkit.errors import PluginError, RecipeError
from genkit.kernel import registry
from genkit.kinds import names
from genkit_own import excerpt, files


def register(kind: str, name: str, cls: type) -> None:
    """Make a class of one's own a component by a name: `genkit.register("loss", "cauchy", Cauchy)`.

    It is recorded as it is now, by its source with what that refers to: `genkit_own.excerpt`. So a run's id has its
    hash, a run's folder its copy, and the trials of a study, which are processes of their own, get it from there. What
    is changed afterwards counts once it is registered again, which the same name allows.

    Args:
        kind: What it is, such as "loss"; `genkit.kinds` says what each kind owes.
        cls: A frozen, keyword-only attrs class.

    Raises:
        RecipeError: There is no such kind, an installed plugin has the name, or the source is not to be had.
        PluginError: It is no component of the kind, or its source fails when it is run on its own.
    """
    where = f"genkit.register({kind!r}, {name!r}, {getattr(cls, '__name__', cls)})"
    registry.require_kind(kind)
    if not isinstance(cls, type) or not attrs.has(cls):
        raise RecipeError(where, "is no attrs class", "put @attrs.frozen(kw_only=True) above the class")
    known = {(info.kind, info.name): info for info in registry.components().values()}
    if (kind, name) in known:
        others = names(n for k, n in known if k == kind)
        raise RecipeError(
            where, f"{known[kind, name].distribution} has a {kind} {name!r}", f"take another than {others}"
        )
    text = excerpt.of(cls, where)
    files.allow(text)
    info = files.of_text(kind, name, text, cls.__name__, where, f"the source of {cls.__name__}")
    try:
        registry.load(info)
    except PluginError as error:
        raise PluginError(where, error.what, error.hint) from error.__cause__
    registry.offer(name, info, cls)
