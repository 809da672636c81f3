"""What names a run: everything that can change its weights, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

import attrs

from genkit.errors import DataError
from genkit.kernel import discovery, registry, resolving, toml
from genkit.kernel.recipe import FORMAT, Recipe
from genkit.kernel.toml import Tree
from genkit.kinds import Source, fields


def identity(recipe: Recipe, data: str, content: Callable[[Source], str] = lambda source: source.origin) -> str:
    """10 hex that name what can change the weights, and nothing else.

    Args:
        data: Identity of the data set's content.
        content: Identity of the content of a model that the recipe names.
    """
    used: set[str] = set()
    parts = _deciding(recipe, used, content)
    sources = {d: _source(d) for d in sorted(used | {"genkit-lab"})}
    whole = {"format": FORMAT, **parts, "data": data, "sources": sources}
    canonical = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def differences(there: Recipe, here: Recipe) -> list[str]:
    """The settings that make two recipes two runs, with their values: `loss.c (0.1 there, default here)`."""
    then, now = (dict(toml.leaves(_deciding(recipe, set(), lambda source: source.origin))) for recipe in (there, here))
    keys = sorted(key for key in {*then, *now} if then.get(key) != now.get(key))
    old, new = ([str(of.get(key, "default"))[:100] for key in keys] for of in (then, now))
    return [
        f"{toml.spelt(k).removesuffix('.is')} ({a} there, {b} here)" for k, a, b in zip(keys, old, new, strict=True)
    ]


def _deciding(recipe: Recipe, used: set[str], content: Callable[[Source], str]) -> Tree:
    """The tables that decide about weights, by what they are."""
    tables = ("dataset", "objective", "optimizer", "ema", "train")
    decide = {name: _essence(getattr(recipe, name), used, content) for name in tables}
    init = content(recipe.init) if recipe.init.origin else ""
    averages = {name: _essence(component, used, content) for name, component in recipe.averages.items()}
    more = {"averages": averages} if averages else {}  # runs of before there were any keep their ids
    return {**decide, "levels": attrs.asdict(recipe.levels), "init": init, **more}


def _essence(component: Any, used: set[str], content: Callable[[Source], str]) -> Tree:
    """`distribution/name@revision` with the fields that differ from their defaults; slots in full."""
    tree: Tree = {}
    if origin := registry.origin(component):
        used.add(origin.distribution)
        tree["is"] = f"{origin.qualified}@{getattr(type(component), 'revision', 1)}"
    for name, field in fields(type(component)):
        value = getattr(component, field.name)
        if not field.metadata.get("identity", True) or value == field.default:
            continue
        if field.metadata.get("before") and essence(value) == {"is": field.metadata["before"]}:
            continue
        if isinstance(value, Source):
            tree[name] = content(value) if value.origin else ""
        elif isinstance(value, Path):
            tree[name] = _content_of(value)
        else:
            tree[name] = _essence(value, used, content) if attrs.has(type(value)) else resolving.simple(value)
    return tree


def _content_of(path: Path) -> str:
    """A file counts by what is in it.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "check the path") from error


def essence(component: Any) -> Tree:
    """What a component is: `distribution/name@revision` with the settings that can change results."""
    return _essence(component, set(), lambda source: source.origin)


def made_of(*components: Any) -> Tree:
    """The code of components, by distribution: the hash of an editable one's source, else the version."""
    infos = {registry.info_of(component) for component in components}
    return {info.distribution: _source(info.distribution) or info.version for info in infos}


# The core's modules that decide about weights: editing another one makes no new run.
_DECIDING = "keys levels denoiser ema data/sources training/state training/step".split()


@cache
def _source(distribution: str) -> str:
    """Hash of the source of an editable installation; empty for a released one, whose version is in the lock.

    Looked at once: a study asks for a thousand runs, and the process has one code.
    """
    told = (found.read_text("direct_url.json") for found in metadata.distributions(name=distribution))
    direct = json.loads(next(filter(None, told), "{}"))  # what a build leaves in a checkout tells nothing
    if not direct.get("dir_info", {}).get("editable"):
        return ""
    if distribution == "genkit-lab":
        files = [Path(__file__).parents[1] / f"{name}.py" for name in _DECIDING]
    else:
        package = next(p for p in discovery.installed().all if p.distribution == distribution).target.split(".")[0]
        spec = util.find_spec(package)
        folders = (spec.submodule_search_locations or []) if spec else []
        files = [file for folder in folders for file in sorted(Path(folder).rglob("*.py"))]
        files = files or ([Path(spec.origin)] if spec and spec.origin else [])
    return hashlib.sha256(b"".join(file.name.encode() + b"\0" + file.read_bytes() for file in files)).hexdigest()[:16]
