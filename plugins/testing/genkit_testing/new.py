"""`genkit plugins new`: a plugin that installs and passes its tests at once, to be changed into one's own."""

from __future__ import annotations

import ast
import datetime
import re
from importlib import util
from pathlib import Path
from string import Template
from typing import Annotated

import typer

import genkit
from genkit.errors import RecipeError
from genkit.kernel import index, loading, registry, resolving
from genkit.kinds import KINDS, names

TEMPLATE = Path(__file__).parent / "template"
BASE = "ict_ring"  # what the recipe of each new component extends
NAME = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"

# What a recipe says to use a component, where that is not `[kind] use = "name"`.
TABLES = {
    "parameterization": '[objective]\nuse = "diffusion"\n\n[parameterization]\nuse = "$name"',
    "sampler": '[objective]\nuse = "diffusion"\n\n[sampler]\nuse = "$name"',
    "features": '[metrics.fd]\nuse = "fd"\nfeatures = "$name"',
    "metric": '[metrics.$name]\nuse = "$name"',
    "protocol": '[evaluate]\nprotocol = "$name"',
    "tracker": '[trackers.$name]\nuse = "$name"',
}


def new(
    name: Annotated[str, typer.Argument(help="What it is called: its components are, too.")],
    kind: Annotated[str, typer.Option(help="Kinds of components, with commas: loss,objective")] = "loss",
) -> None:
    """A new plugin in a folder of its own: components that work, a recipe for each, tests, what publishing needs."""
    kinds = list(dict.fromkeys(word.strip() for word in kind.split(",")))
    for wanted in kinds:
        registry.require_kind(wanted)
        if wanted not in KINDS:
            raise RecipeError("--kind", f"there is no example of kind {wanted!r}", f"kinds: {names(KINDS)}")
    _require_new(name, kinds)
    distribution = f"genkit-lab-{name}"
    for file, text in written(name, kinds).items():
        path = Path(distribution, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    first = [f"python -m pip install -e ./{distribution}", f"genkit plugins check ./{distribution}"]
    print("\n".join([distribution, "", "Next:", *(f"  {command}" for command in (*first, *commands(name, kinds)))]))


def _require_new(name: str, kinds: list[str]) -> None:
    """Refuse a name that is none, or that somebody has.

    Raises:
        RecipeError: It is one of those.
    """
    if not re.fullmatch(NAME, name):
        raise RecipeError("NAME", f"{name!r} names no plugin", "take lower-case letters, digits and hyphens: student-t")
    taken = [kind for kind in kinds if (kind, name) in registry.components() or index.provider(kind, name)]
    package = f"genkit_{name.replace('-', '_')}"
    there = [f"a {kind} {name!r}" for kind in taken]
    there += [f"a folder genkit-lab-{name}"] if Path(f"genkit-lab-{name}").exists() else []
    there += [f"a package {package}"] if util.find_spec(package) or f"genkit-lab-{name}" in index.known() else []
    if there:
        raise RecipeError("NAME", f"there is {there[0]} already", "choose another name")


def written(name: str, kinds: list[str]) -> dict[str, str]:
    """The files of a new plugin, by their paths within its folder."""
    package, title = f"genkit_{name.replace('-', '_')}", "".join(word.title() for word in name.split("-"))
    sources = {kind: (TEMPLATE / "kinds" / f"{kind}.py").read_text("utf-8") for kind in kinds}
    summaries = {kind: summary(text) for kind, text in sources.items()}
    recipes = [recipe(name, kind) for kind in kinds if kind != "launcher"]
    told = {
        "name": name,
        "title": title,
        "package": package,
        "distribution": f"genkit-lab-{name}",
        "kinds": ", ".join(kinds),
        "dependencies": ", ".join(f'"{needed}"' for needed in dependencies(list(sources.values()))),
        "components": "\n".join(f"- {kind} `{name}`: {text}" for kind, text in summaries.items()),
        "commands": "\n".join(commands(name, kinds)),
        "recipes": "[" + ", ".join(f'"{found}"' for found in recipes) + "]",
        "year": str(datetime.datetime.now(datetime.UTC).year),
    }

    def filled(file: str) -> str:
        return Template((TEMPLATE / file).read_text("utf-8")).substitute(told)

    files = {"pyproject.toml": filled("project.toml"), "README.md": filled("README.md"), "LICENSE": filled("LICENSE")}
    files |= {".github/workflows/tests.yml": filled("ci.yml"), f"tests/test_{package}.py": filled("tests.txt")}
    files |= {
        f"{package}/{kind}.py": re.sub(r"\bExample", title + kind.title(), text) for kind, text in sources.items()
    }
    files |= {f"{package}/__init__.py": entry(name, package, title, summaries)}
    files |= {f"{package}/recipes/__init__.py": f'"""Recipes of genkit-lab-{name}."""\n'}
    tables = {kind: Template(TABLES.get(kind, f'[{kind}]\nuse = "$name"')).substitute(told) for kind in kinds}
    for kind in kinds:
        if kind != "launcher":  # which a command names, not a recipe
            about = f"# A ring learnt with the {kind} {name}: {summaries[kind]}"
            text = f'{about}\nextends = "{BASE}"\nname = "{recipe(name, kind)}"\n\n{tables[kind]}\n'
            files[f"{package}/recipes/{recipe(name, kind)}.toml"] = text
    return files


def recipe(name: str, kind: str) -> str:
    """The recipe that uses the new component of a kind."""
    return f"{name.replace('-', '_')}_{kind}"


def commands(name: str, kinds: list[str]) -> list[str]:
    """What uses the new components."""
    return [
        f"genkit ablate {BASE} --swap loss=l2 --launcher {name}"
        if kind == "launcher"
        else f"genkit run {recipe(name, kind)}"
        for kind in kinds
    ]


def summary(source: str) -> str:
    """The first line of the docstring of a module's component."""
    cls = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Example")
    return (ast.get_docstring(cls) or "").split("\n")[0]


def entry(name: str, package: str, title: str, summaries: dict[str, str]) -> str:
    """The module of the entry point."""
    lines = [f'"""{title} for genkit."""', "", "from genkit.hookspecs import hookimpl, lazy", "", "GENKIT_API = 1", ""]
    for kind, text in summaries.items():
        offer = f'{{"{name}": lazy("{package}.{kind}:{title}{kind.title()}", "{text}")}}'
        lines += ["", "@hookimpl", f"def genkit_{kind}():", f"    return {offer}", ""]
    lines += ["", "@hookimpl", "def genkit_recipes():", f'    return "{package}.recipes"', ""]
    return "\n".join(lines)


def dependencies(sources: list[str]) -> list[str]:
    """What components import, and who brings the components of their slots and of the recipe that theirs extend."""
    found = {f"genkit-lab>={genkit.__version__}", *of_recipe(BASE)}
    for source in sources:
        imported = {module.partition(".")[0] for module in re.findall(r"^(?:import|from) (\S+)", source, re.MULTILINE)}
        found |= imported & {"attrs", "torch"}
        found |= {index.provider(kind, use) for kind, use in re.findall(r'slot\("(\w+)", "([\w-]+)"', source)}
    return sorted(found - {""})


def of_recipe(name: str) -> set[str]:
    """The distributions that bring the components of a recipe."""
    return {registry.info_of(part).distribution for _, part in resolving.components_of(loading.load_recipe(name))}
