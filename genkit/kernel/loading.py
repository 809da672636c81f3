"""From a recipe's file, or Python, to a checked `Recipe`; and where installed recipes are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from genkit.errors import GenkitError, RecipeError
from genkit.kernel import discovery, index, registry, resolving, tables, toml
from genkit.kernel.recipe import CORE_TABLES, NAME, Recipe
from genkit.kernel.tables import Layers
from genkit.kernel.toml import Key, Places, Tree
from genkit.kinds import closest, fields, names


def load_recipe(recipe: str | Path, overrides: Iterable[str] = (), swaps: Iterable[str] = ()) -> Recipe:
    """A recipe by path or by the name of an installed one, resolved and checked.

    Args:
        overrides: `key.path=value`, as on the command line.
        swaps: `slot=component` or `slot={use="component", ...}`; the table is replaced.

    Raises:
        RecipeError: Something is wrong with it; every problem at once, each with file and line.
    """
    layers, notices = layers_of(recipe)
    layers = tables.override(layers, _swappable(swaps), swap=True)
    return resolved(tables.override(layers, overrides), notices)


def layers_of(recipe: str | Path, overrides: Iterable[str] = ()) -> tuple[Layers, list[str]]:
    """The tables of a recipe, found as `load_recipe` does, before they are checked; and what to say about it."""
    path, notices = find(str(recipe))
    by_hand = path == Path(recipe) and not (path.parent / "lock.json").exists()  # a run may be somebody else's
    layers = tables.load(path, _locate, by_hand)
    layers.tree.setdefault("name", path.stem)
    return tables.override(layers, overrides), notices


def recipe_of(**settings: Any) -> Recipe:
    """A recipe from Python: `recipe_of(dataset="digits", objective="consistency", train={"steps": 100})`."""
    return resolved(Layers(toml.hoist(settings, "recipe"), Places(), set()))


def _swappable(swaps: Iterable[str]) -> list[str]:
    listed = list(swaps)
    for swap in listed:
        slot = swap.partition("=")[0].split(".")[0]
        if slot in ("metrics", "evaluate", "train", "levels", "name", "genkit", "trackers", "init", "averages"):
            hint = "all arms share it; use an override instead"
            raise RecipeError(f"--swap {swap!r}", f"{slot} is no component to swap", hint)
    return listed


def resolved(layers: Layers, notices: Iterable[str] = ()) -> Recipe:
    """Structure and check the tables of a recipe.

    Raises:
        GenkitError: Every problem at once.
    """
    problems: list[GenkitError] = []
    tree, places, said = dict(layers.tree), layers.places, list(notices)
    said += _drop_inherited(tree, layers)
    values: dict[str, Any] = {}
    known = {name: field for name, field in fields(Recipe) if name not in ("places", "notices")}
    for name, cls in CORE_TABLES.items():
        places.known |= {(name, key) for key, _ in fields(cls)}
    for name in tree:
        if name not in known:
            problems.append(RecipeError(places.where((name,)), "unknown key", f"keys: {names(known)}"))
    for name in ("genkit", "name"):
        if name in tree:
            values[name] = resolving.value(Recipe, known[name], tree[name], (name,), problems, places)
    for name in ("dataset", "objective", "optimizer", "ema"):
        values[name] = resolving.slot(known[name], tree.get(name), (name,), problems, places)
    for name, cls in CORE_TABLES.items():
        values[name] = resolving.settings(cls, tree.get(name, {}), (name,), problems, places)
    for name, kind in toml.NAMED.items():
        values[name] = _named(kind, tree.get(name, {}), name, problems, places)
    resolving.stop(problems)
    recipe = Recipe(**values, places=places, notices=tuple(said))
    _fits(recipe, problems)
    resolving.stop(problems)
    return recipe


def _named(kind: str, table: Any, name: str, problems: list[GenkitError], places: Places) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        problems.append(RecipeError(places.where((name,)), f"expected tables [{name}.NAME], got {table!r}"))
        return {}
    wanted = {n: t for n, t in table.items() if t is not False}  # `fd = false` takes out what a base put in
    return {n: resolving.of_table(kind, t, (name, n), problems, places) for n, t in wanted.items()}


def _drop_inherited(tree: Tree, layers: Layers) -> list[str]:
    """Drop slots that were written for another objective and that this one does not have, or whose component is for
    models of another kind: it gets its own."""
    objective, inherited = tree.get("objective"), layers.inherited
    if not inherited or not isinstance(objective, dict) or not isinstance(use := objective.get("use"), str):
        return []
    try:
        cls = resolving.class_of("objective", use, ("objective",), layers.places)
    except GenkitError:
        return []  # reported when the objective itself is resolved
    has = dict(fields(cls))
    lacked = sorted(name for name in inherited if name in objective and name not in has)
    kinds = {name: field.metadata["slot"] for name, field in has.items() if "slot" in field.metadata}
    unlike = sorted(n for n in inherited & kinds.keys() & objective.keys() if _of(kinds[n], objective[n], cls))
    tree["objective"] = {n: v for n, v in objective.items() if n not in (*lacked, *unlike)}
    said = [f"objective {use} has no [{name}]: the table is left out" for name in lacked]
    return said + [f"[{name}] is for models of another kind than objective {use}: it gets its own" for name in unlike]


def _of(kind: str, table: Any, objective: type) -> str:
    """Of what other models a component is than an objective's; empty if it suits, or is not known."""
    use = table.get("use") if isinstance(table, Mapping) else table
    try:
        return _unlike(kind, registry.load(registry.find(kind, str(use))), objective)
    except GenkitError:
        return ""  # reported when the slot itself is resolved


def _unlike(kind: str, part: Any, objective: Any) -> str:
    """Of what other models a sampler or a parameterization is than an objective's; empty if it suits."""
    needs, times = getattr(part, "needs", ""), getattr(part, "times", 1)
    if kind == "sampler" and isinstance(needs, str) and needs != objective.predicts:
        return f"needs a model that predicts {needs}, this objective's predicts {objective.predicts}"
    if kind == "parameterization" and times not in (None, getattr(objective, "times", 1)):
        return f"is of models of {times} times, this objective's have {getattr(objective, 'times', 1)}"
    return ""


def _fits(recipe: Recipe, problems: list[GenkitError]) -> None:
    """Checks across tables: the sampler fits the model, and whatever says itself what it fits."""
    for slot in ("sampler", "parameterization"):
        part = getattr(recipe.objective, slot, None)
        if what := _unlike(slot, part, recipe.objective):
            where, hint = recipe.places.where(("objective", slot)), f"`genkit components list {slot}` shows others"
            problems.append(RecipeError(where, f"{slot} {registry.info_of(part).name!r} {what}", hint))
    for name in recipe.averages:
        if not re.fullmatch(f"(?!(ema|raw)$){NAME}", name):
            where, hint = recipe.places.where(("averages", name)), "take letters and digits, and neither ema nor raw"
            problems.append(RecipeError(where, f"{name!r} names no further average", hint))
    for key, part in _parts(recipe):
        try:
            getattr(part, "fits", lambda _: None)(recipe)
        except RecipeError as error:
            problems.append(RecipeError(recipe.places.where((*key, error.where)), error.what, error.hint))


def _parts(whole: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """The tables and components below one, with their keys."""
    items = whole.items() if isinstance(whole, dict) else ((n, getattr(whole, f.name)) for n, f in fields(type(whole)))
    for name, part in items:
        if attrs.has(type(part)) or (isinstance(part, dict) and isinstance(whole, Recipe) and name != "places"):
            yield (*key, name), part
            yield from _parts(part, (*key, name))


def folders() -> list[tuple[str, Path]]:
    """(distribution, folder) of all installed recipes: the core's own first, then those of plugins.

    The core's are `genkit/recipes` in a wheel, and `recipes` beside the package in a checkout.
    """
    package = Path(__file__).parents[1]
    own = package / "recipes" if (package / "recipes").is_dir() else package.parent / "recipes"
    return [("genkit-lab", own), *discovery.recipe_folders()]


def installed() -> dict[str, tuple[str, Path]]:
    """Installed recipes: name -> (distribution, file)."""
    found: dict[str, tuple[str, Path]] = {}
    for distribution, folder in folders():
        for file in sorted(folder.glob("*.toml")):
            found.setdefault(file.stem, (distribution, file))
            found[f"{distribution}/{file.stem}"] = (distribution, file)
    return found


def find(recipe: str) -> tuple[Path, list[str]]:
    """A recipe's file, by path or installed name; and what to say about it.

    Raises:
        RecipeError: There is no such file or name.
    """
    path = Path(recipe)
    if path.is_file():
        return path, []
    known = installed()
    if recipe in known:
        return known[recipe][1], []
    if path.suffix == ".toml" and path.stem in known:
        return known[path.stem][1], [f"{recipe} is not here: taking the installed recipe {path.stem}"]
    bare = [name for name in known if "/" not in name]
    hint = closest(path.stem, bare, f"installed: {names(bare)}")
    absent = index.absent(recipe, "recipe", path.stem)
    raise absent or RecipeError(recipe, "no such recipe file or installed recipe", hint)


def _locate(name: str, folder: Path) -> Path:
    if (folder / name).is_file():
        return folder / name
    known = installed()
    if name in known:
        return known[name][1]
    where, what = f"extends {name!r}", f"no such file in {folder}, and no installed recipe of that name"
    hint = f"installed: {names(n for n in known if '/' not in n)}"
    raise index.absent(where, "recipe", name) or RecipeError(where, what, hint)
