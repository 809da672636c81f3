"""A recipe: TOML tables resolved into checked components."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import util
from pathlib import Path
from typing import Any

import attrs
import tomli_w

from genkit import plugins, registry, resolve, tables
from genkit.errors import GenkitError, RecipeError
from genkit.kinds import Source, fields, names, setting, slot
from genkit.levels import Levels
from genkit.tables import Layers, Places, Tree

FORMAT = 1
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"  # of a folder
_v = attrs.validators


@attrs.frozen(kw_only=True)
class Train:
    """The table [train]."""

    steps: int = setting(help="optimizer steps, K", check=_v.and_(_v.ge(1), _v.le(10**12)))
    batch_size: int = setting(64, "samples a step, over all processes", check=_v.ge(1))
    seed: int = setting(0, "seed of every draw", check=_v.ge(0))
    precision: str = setting("float32", "float32 or bf16 (autocast)", check=_v.in_(("float32", "bf16")))
    micro_batch: int | None = setting(
        None, "samples at a time, where a batch does not fit", check=_v.optional(_v.ge(1)), identity=False
    )
    compile: bool = setting(False, "compile the networks", identity=False)
    threads: int | None = setting(
        None, "CPU threads; torch's own choice if not given", check=_v.optional(_v.ge(1)), identity=False
    )
    log_every_steps: int = setting(50, "steps between figures", check=_v.ge(1), identity=False)
    save_every_steps: int = setting(500, "steps between checkpoints", check=_v.ge(1), identity=False)
    sample_every_steps: int = setting(0, "steps between sample grids; 0 for none", check=_v.ge(0), identity=False)
    keep_checkpoints: int = setting(
        2, "newest checkpoints kept, the final one among them", check=_v.ge(2), identity=False
    )


@attrs.frozen(kw_only=True)
class Evaluate:
    """The table [evaluate]."""

    protocol: Any = slot("protocol", "edm-fid", "how samples become images, how many, how often", identity=False)
    samples: int | None = setting(
        None,
        "samples that figures are made from; the protocol's number if not given",
        check=_v.optional(_v.ge(2)),
        identity=False,
    )
    seeds: int | None = setting(
        None,
        "how often, with seed, seed + 1, …; the protocol's number if not given",
        check=_v.optional(_v.ge(1)),
        identity=False,
    )
    steps: tuple[int, ...] = setting(
        (1,), "numbers of sampling steps", check=_v.deep_iterable(_v.ge(1), _v.min_len(1)), identity=False
    )
    every_steps: int = setting(
        0, "also evaluate every so many training steps; 0 for never", check=_v.ge(0), identity=False
    )
    seed: int = setting(0, "seed of the latents", check=_v.ge(0), identity=False)
    weights: str = setting("ema", "ema or raw", check=_v.in_(("ema", "raw")), identity=False)
    reference: Path | None = setting(
        None, "statistics (.h5, .npz) to compare with instead of the training data", identity=False
    )
    best: str = setting(
        "",
        "keep the checkpoint that is best by this figure, such as fd.fd@1; needs every_steps",
        check=_v.matches_re(r"|[^@]+\.[^@]+@[1-9][0-9]*"),
        identity=False,
    )

    @property
    def count(self) -> int:
        """How many samples a figure is made from."""
        return int(self.samples or self.protocol.samples)

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds of the latents of one evaluation."""
        return tuple(range(self.seed, self.seed + int(self.seeds or self.protocol.seeds)))


@attrs.frozen(kw_only=True)
class Recipe:
    """Everything a run is made from. Its fields are a recipe's tables."""

    genkit: int = setting(FORMAT, "recipe format", check=_v.in_((FORMAT,)), identity=False)
    name: str = setting("run", "name of the run folder", check=_v.matches_re(NAME), identity=False)
    dataset: Any = slot("dataset")
    objective: Any = slot("objective")
    optimizer: Any = slot("optimizer", "radam")
    ema: Any = slot("ema", "constant")
    train: Train = attrs.field()
    levels: Levels = attrs.field(factory=Levels)
    init: Source = attrs.field(factory=Source)
    evaluate: Evaluate = attrs.field()
    metrics: dict[str, Any] = attrs.field(factory=dict)
    trackers: dict[str, Any] = attrs.field(factory=dict)
    places: Places = attrs.field(factory=Places, eq=False, repr=False)
    notices: tuple[str, ...] = attrs.field(default=(), eq=False)

    def tree(self) -> Tree:
        """The resolved recipe as plain tables, every default written out."""
        tree: Tree = {"genkit": self.genkit, "name": self.name}
        for name in ("dataset", "objective", "optimizer", "ema", "train", "levels", "init", "evaluate"):
            tree[name] = resolve.plain(getattr(self, name))
        if not self.init.origin:
            del tree["init"]
        slots = {n: v for n, v in tree["objective"].items() if isinstance(v, dict)}
        tree["objective"] = {n: v for n, v in tree["objective"].items() if n not in slots}
        for name in ("metrics", "trackers"):
            if components := getattr(self, name):
                tree[name] = {n: resolve.plain(c) for n, c in components.items()}
        return {**tree, **slots}

    def toml(self) -> str:
        """The resolved recipe as one file."""
        return tomli_w.dumps(self.tree())

    def provenance(self) -> list[tuple[str, str, str]]:
        """(key, value, who wrote it) of every value."""
        rows = []

        def walk(tree: Mapping[str, Any], key: tables.Key) -> None:
            for name, value in tree.items():
                here = (*key, name)
                if isinstance(value, Mapping):
                    walk(value, here)
                else:
                    written = self.places.get(here) or self.places.get(tables.hoisted(here))
                    rows.append((".".join(here), str(value), str(written or "default")))

        walk(self.tree(), ())
        return rows

    def protocol(self) -> dict[str, Any]:
        """What figures depend on besides the weights; evaluations that differ here are never compared."""
        evaluate = self.evaluate
        return {
            "protocol": resolve.plain(evaluate.protocol),
            "published": {"samples": evaluate.protocol.samples, "seeds": evaluate.protocol.seeds},
            "samples": evaluate.count,
            "seeds": list(evaluate.all_seeds),
            "weights": evaluate.weights,
            "levels": resolve.plain(self.levels),
            "sampler": resolve.plain(self.objective.sampler),
            "metrics": {n: resolve.plain(c) for n, c in self.metrics.items()},
        }

    def evaluations_after(self, k: int) -> int:
        """How many evaluations a run has before it once k steps are taken, the final one among them."""
        every, total = self.evaluate.every_steps, self.train.steps
        between = (total - 1) // every - min(k, total - 1) // every if every else 0
        return between + 1 if self.metrics else 0


CORE_TABLES: dict[str, type] = {"train": Train, "levels": Levels, "init": Source, "evaluate": Evaluate}


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
    layers = tables.load(path, _locate)
    layers.tree.setdefault("name", path.stem)
    return tables.override(layers, overrides), notices


def other_evaluation(evaluate: Evaluate, settings: Mapping[str, Any]) -> Evaluate:
    """The table [evaluate] with some settings changed, checked as if they stood in a recipe."""
    problems: list[GenkitError] = []
    table = {**resolve.plain(evaluate), **settings}
    made: Evaluate = resolve.settings(Evaluate, table, ("evaluate",), problems, Places())
    resolve.stop(problems)
    return made


def recipe_of(**settings: Any) -> Recipe:
    """A recipe from Python: `recipe_of(dataset="digits", objective="consistency", train={"steps": 100})`."""
    return resolved(Layers(tables.hoist(settings, "recipe"), Places(), set()))


def _swappable(swaps: Iterable[str]) -> list[str]:
    listed = list(swaps)
    for swap in listed:
        slot = swap.partition("=")[0].split(".")[0]
        if slot in ("metrics", "evaluate", "train", "levels", "name", "genkit", "trackers", "init"):
            raise RecipeError(
                f"--swap {swap!r}", f"{slot} is no component to swap", "all arms share it; use an override instead"
            )
    return listed


def resolved(layers: Layers, notices: Iterable[str] = ()) -> Recipe:
    """Structure and check the tables of a recipe.

    Raises:
        GenkitError: Every problem at once.
    """
    problems: list[GenkitError] = []
    tree, places, said = dict(layers.tree), layers.places, list(notices)
    said += _drop_inherited(tree, layers.inherited)
    values: dict[str, Any] = {}
    known = {name: field for name, field in fields(Recipe) if name not in ("places", "notices")}
    for name, cls in CORE_TABLES.items():
        places.known.update({key: f"{name}.{key}" for key, _ in fields(cls)})
    for name in tree:
        if name not in known:
            problems.append(RecipeError(places.where((name,)), "unknown key", f"keys: {names(known)}"))
    for name in ("genkit", "name"):
        if name in tree:
            values[name] = resolve._value(Recipe, known[name], tree[name], (name,), problems, places)
    for name in ("dataset", "objective", "optimizer", "ema"):
        values[name] = resolve._slot(known[name], tree.get(name), (name,), problems, places)
    for name, cls in CORE_TABLES.items():
        values[name] = resolve.settings(cls, tree.get(name, {}), (name,), problems, places)
    for name, kind in (("metrics", "metric"), ("trackers", "tracker")):
        values[name] = _named(kind, tree.get(name, {}), name, problems, places)
    if not problems:
        _fits(values, problems, places)
    resolve.stop(problems)
    return Recipe(**values, places=places, notices=tuple(said))


def _named(kind: str, table: Any, name: str, problems: list[GenkitError], places: Places) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        problems.append(RecipeError(places.where((name,)), f"expected tables [{name}.NAME], got {table!r}"))
        return {}
    wanted = {n: t for n, t in table.items() if t is not False}  # `fd = false` takes out what a base put in
    return {n: resolve.component(kind, t, (name, n), problems, places) for n, t in wanted.items()}


def _drop_inherited(tree: Tree, inherited: set[str]) -> list[str]:
    """Drop slots that were written for another objective and that this one does not have."""
    objective = tree.get("objective")
    if not inherited or not isinstance(objective, dict) or not isinstance(use := objective.get("use"), str):
        return []
    try:
        has = dict(fields(registry.load(registry.find("objective", use))))
    except GenkitError:
        return []  # reported when the objective itself is resolved
    dropped = sorted(name for name in inherited if name in objective and name not in has)
    tree["objective"] = {n: v for n, v in objective.items() if n not in dropped}
    return [f"objective {use} has no [{name}]: the table is left out" for name in dropped]


def _fits(values: dict[str, Any], problems: list[GenkitError], places: Places) -> None:
    """Checks across components: the sampler fits the model."""
    objective = values["objective"]
    predicts, needs = objective.predicts, objective.sampler.needs
    if predicts != needs:
        sampler = registry.info_of(objective.sampler).name
        problems.append(
            RecipeError(
                places.where(("objective", "sampler")),
                f"sampler {sampler!r} needs a model that predicts {needs}, this objective's predicts {predicts}",
                "choose a sampler that fits: `genkit components list sampler`",
            )
        )


# ---- finding recipes ---------------------------------------------------------------------------


def installed() -> dict[str, tuple[str, Path]]:
    """Installed recipes: name -> (distribution, file); the core's own first, then those of plugins."""
    folders = [("genkit-lab", _own_folder())]
    for plugin, package in plugins.installed().calls("genkit_recipes"):
        try:
            spec = util.find_spec(package)
        except (ImportError, ValueError):
            spec = None  # its recipes are not there; `genkit recipe list` shows those that are
        folders += [(plugin.distribution, Path(p)) for p in (spec.submodule_search_locations or [])] if spec else []
    found: dict[str, tuple[str, Path]] = {}
    for distribution, folder in folders:
        for file in sorted(folder.glob("*.toml")):
            found.setdefault(file.stem, (distribution, file))
            found[f"{distribution}/{file.stem}"] = (distribution, file)
    return found


def _own_folder() -> Path:
    """`genkit/recipes` in a wheel, `recipes` beside the package in a checkout."""
    here = Path(__file__).parent
    return here / "recipes" if (here / "recipes").is_dir() else here.parent / "recipes"


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
    raise RecipeError(
        recipe,
        "no such recipe file or installed recipe",
        tables.closest(path.stem, bare) or f"installed: {names(bare)}",
    )


def _locate(name: str, folder: Path) -> Path:
    if (folder / name).is_file():
        return folder / name
    known = installed()
    if name in known:
        return known[name][1]
    raise RecipeError(
        f"extends {name!r}",
        f"no such file in {folder}, and no installed recipe of that name",
        f"installed: {names(n for n in known if '/' not in n)}",
    )
