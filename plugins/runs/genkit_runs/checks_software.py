"""What `genkit doctor` looks at of what is installed: versions, distributions, plugins, environment variables."""

from __future__ import annotations

import base64
import difflib
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlparse

import genkit
from genkit.errors import GenkitError
from genkit.hookspecs import Lazy
from genkit.kernel import discovery, registry
from genkit_runs.findings import Finding, note, ok, problem

PYTHON = ((3, 11), (3, 13))  # the oldest and the newest that are tested
TORCH = (2, 14)  # the newest that is tested; the oldest of each package says the distribution itself
CORE = "genkit-lab"
VARIABLES = {"RUNS", "CONFIG", "PLUGINS", "WITHOUT", "CACHE", "WEIGHTS", "OFFLINE", "LOCKS", "LOCAL_CODE", "DEBUG"}


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version: (2, 10, 0) of "2.10.0+cu128"."""
    told = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, told[0].split("."))) if told else ()


def named(distribution: metadata.Distribution) -> str:
    return re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()


# ---- versions ------------------------------------------------------------------------------------


def versions() -> Iterator[Finding]:
    """Python, genkit, and the packages that genkit and its plugins ask for."""
    now, text = sys.version_info[:2], ".".join(map(str, sys.version_info[:3]))
    low, high = (".".join(map(str, version)) for version in PYTHON)
    if now < PYTHON[0]:
        yield problem("python", f"{text} is too old", f"use {low} to {high}")
    elif now > PYTHON[1]:
        yield note("python", f"{text} is untested", f"use {low} to {high} if something is odd")
    else:
        yield ok("python", f"{text} ({sys.executable})")
    yield ok("genkit", f"{genkit.__version__} ({Path(genkit.__file__).parent})")
    good = []
    for name, least in sorted(needed().items()):
        finding = _version(name, least)
        good += [finding.found] if finding.state == "ok" else []
        yield from [finding] if finding.state != "ok" or name == "torch" else []
    yield ok("packages", ", ".join(good))


def needed() -> dict[str, str]:
    """The least versions of what genkit and its plugins require; "" where any will do."""
    found: dict[str, str] = {"torch": "2.10"}
    for distribution in metadata.distributions():
        for line in (distribution.requires or []) if named(distribution).startswith(CORE) else []:
            told = re.match(r"([\w.-]+)\s*(?:>=\s*([\d.]+))?", line)
            if told and "extra ==" not in line and not told[1].startswith(CORE):
                found[told[1]] = max(found.get(told[1], ""), told[2] or "", key=release)
    if "torchvision" not in found and any(metadata.distributions(name="torchvision")):
        found["torchvision"] = ""
    return found


def _version(name: str, least: str) -> Finding:
    wanted = f"{name}>={least}" if least else name
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return problem(name, "is not installed", f"python -m pip install '{wanted}'")
    if release(version) < release(least):
        return problem(name, f"{version} is too old", f"python -m pip install '{wanted}'")
    if name == "torch" and release(version)[:2] > TORCH:
        tested = ".".join(map(str, TORCH))
        return note(name, f"{version} is untested", f"use {least} to {tested} if something is odd")
    return ok(name, f"{name} {version}")


# ---- distributions -------------------------------------------------------------------------------


def distributions() -> Iterator[Finding]:
    """One core, whole, of one version, and no other project of its name."""
    every = list(metadata.distributions())
    foreign = [d for d in every if named(d) == "genkit"]
    for d in foreign:
        what = f"genkit {d.version} of another project is installed in {d.locate_file('')} and has the package's name"
        yield problem("distributions", what, f"python -m pip uninstall genkit, then install {CORE} again")
    cores = [d for d in every if named(d) == CORE and d.read_text("RECORD") is not None]  # no leftover of a build
    odd = [*_imported(cores), *_of_other_versions(cores)]
    yield from odd
    if not foreign and not odd:
        yield ok("distributions", f"{CORE} {genkit.__version__}, and no other genkit")


def _imported(cores: list[metadata.Distribution]) -> Iterator[Finding]:
    """Whether the package that is imported is the one that was installed, with its own files."""
    package = Path(genkit.__file__).parent.resolve()
    if len(genkit.__path__) > 1:
        places = ", ".join(genkit.__path__)
        yield problem("distributions", f"genkit is put together from {places}", "leave one of them on the path")
    if not cores:
        yield note("distributions", f"{CORE} is not installed; {package} is imported", "install it from its checkout")
        return
    home, editable = _home(cores[0])
    if home and home.resolve() != package:
        what = f"{package} is imported, and not {home}, which is installed"
        yield note("distributions", what, "if that is not meant, unset PYTHONPATH or go to another folder")
    elif home and not editable and (changed := _foreign_files(cores[0], package)):
        what = f"{len(changed)} files of the package are not those of {CORE}: {', '.join(changed[:3])}"
        yield problem("distributions", what, f"uninstall {CORE}, remove {package}, install it again")


def _home(core: metadata.Distribution) -> tuple[Path | None, bool]:
    """The package folder that a distribution installed, and whether it is editable there."""
    told = json.loads(core.read_text("direct_url.json") or "{}")
    if told.get("dir_info", {}).get("editable"):
        return Path(unquote(urlparse(told["url"]).path)) / "genkit", True
    own = next((f for f in core.files or () if str(f) == "genkit/__init__.py"), None)
    return (Path(str(own.locate())).parent if own else None), False


def _foreign_files(core: metadata.Distribution, package: Path) -> list[str]:
    """Files of the package folder that a distribution did not install, or not like this."""
    found, known = [], set()
    for file in core.files or ():
        path = Path(str(file.locate())).resolve()
        known.add(path)
        if file.parts[0] == "genkit" and file.hash is not None:
            digest = hashlib.new(file.hash.mode, path.read_bytes() if path.is_file() else b"").digest()
            same = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value
            found += [] if same else [str(file)]
    return found + [str(p.relative_to(package.parent)) for p in sorted(package.rglob("*.py")) if p not in known]


def _of_other_versions(cores: list[metadata.Distribution]) -> Iterator[Finding]:
    own = {(CORE, d.version) for d in cores}
    own |= {(p.distribution, p.version) for p in discovery.installed().all if p.distribution.startswith(f"{CORE}-")}
    for name, version in sorted(pair for pair in own if pair[1] != genkit.__version__):
        what = f"{name} {version} is installed beside genkit {genkit.__version__}"
        yield note("distributions", what, "install both from one release or checkout")


# ---- plugins -------------------------------------------------------------------------------------


def plugins() -> Iterator[Finding]:
    """Which are loaded, and why the others are not."""
    every = discovery.installed().all
    loaded = [p.name for p in every if p.state == "loaded"]
    yield ok("plugins", f"{len(loaded)} loaded: {', '.join(loaded)}")
    for p in every:
        what = f"{p.name} of {p.distribution} {p.version} is {p.state}: {p.why}"
        if p.state == "disabled":
            yield note("plugins", what, "nothing, if that is meant")
        elif p.state != "loaded":
            yield problem("plugins", what, f"repair or reinstall it, or leave it out: GENKIT_WITHOUT={p.name}")


def components() -> Iterator[Finding]:
    """Whether all that plugins offer can be imported, and is offered once."""
    offered: dict[tuple[str, str], list[str]] = {}
    broken: dict[str, list[str]] = {}
    for plugin, kind, name, lazy in _offers():
        offered.setdefault((kind, name), []).append(plugin.distribution)
        try:
            registry.imported(lazy, name)
        except GenkitError as error:
            cause = error.what.removeprefix(f"cannot import {lazy.target}: ")
            broken.setdefault(cause, []).append(f"{kind} {name!r} of {plugin.distribution}")
    for cause, things in broken.items():
        more = f" and {len(things) - 1} more" if things[1:] else ""
        yield problem("components", f"{things[0]}{more} cannot be imported: {cause}", "repair or reinstall the plugin")
    for (kind, name), who in offered.items():
        if len(who) > 1:
            what = f"{kind} {name!r} is offered by {' and '.join(who)}"
            yield note("components", what, f"say which, for instance '{who[0]}/{name}', or leave a plugin out")
    if not broken:
        yield ok("components", f"all {len(offered)} can be imported")


def _offers() -> Iterator[tuple[discovery.Plugin, str, str, Lazy]]:
    """(plugin, kind, name, lazy) of all that plugins offer."""
    for hook, offers in discovery.installed().offers.items():
        for plugin, offer in offers if hook != "genkit_recipes" else []:
            by_kind = offer if hook == "genkit_components" else {hook.removeprefix("genkit_"): offer}
            for kind, things in by_kind.items():
                yield from ((plugin, kind, name, Lazy(*lazy)) for name, lazy in things.items())


# ---- environment ---------------------------------------------------------------------------------


def variables() -> Iterator[Finding]:
    """Variables of genkit that are set, and those that nobody reads."""
    names = {f"GENKIT_{name}" for name in VARIABLES}
    there = {name: value for name, value in sorted(os.environ.items()) if name.startswith("GENKIT_")}
    for name in sorted(there.keys() - names):
        what = f"{name}={there[name]} is not read by genkit"
        if close := difflib.get_close_matches(name.removeprefix("GENKIT_"), sorted(VARIABLES), n=1, cutoff=0.65):
            yield problem("environment", what, f"did you mean GENKIT_{close[0]}?")
        else:
            yield note("environment", what, "unset it, if no plugin reads it")
    if there.get("GENKIT_RUNS") == "":
        what = "GENKIT_RUNS is set and empty: runs are kept in the working directory itself"
        yield note("environment", what, "unset it, if that is not meant")
    known = [f"{name}={there[name]}" for name in there if name in names]
    yield ok("environment", ", ".join(known) or "no variable of genkit is set")
