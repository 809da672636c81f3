"""A recipe: TOML tables resolved into checked components."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import tomli_w

from genkit.errors import GenkitError, RecipeError
from genkit.kernel import resolving, toml
from genkit.kernel.toml import Places, Tree
from genkit.kinds import Source, names, setting, slot
from genkit.levels import Levels

FORMAT = 1
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"  # of a folder
_v = attrs.validators
_maybe = _v.optional
_aside = functools.partial(setting, identity=False)  # what changes no weights


def _from(least: int, most: int = 10**12) -> Any:
    """A check of whole numbers, which tells absurd ones before anything is allocated or begun.

    To 10^12 steps, a step each millisecond takes 30 years. No machine has the memory for batches of 10^6 samples, the
    time to draw 10^9 for a figure, or a use for 4096 threads, which the system would begin at once.
    """
    return _v.and_(_v.ge(least), _v.le(most))


_STEPS: Any = _v.deep_iterable(_from(1, 10**4), _v.and_(_v.min_len(1), _v.max_len(1000)))
PRECISIONS = ("float32", "tf32", "bf16", "fp16")
COMPILE = (False, True, "default", "reduce-overhead", "max-autotune")
_FIGURE = _v.matches_re(r"|[^@]+\.[^@]+@[1-9][0-9]*")


def _part(of: object, field: Any, value: int | str) -> None:
    """A number of samples, or the word."""
    check: Any = _v.in_(("auto",)) if isinstance(value, str) else _from(1, 10**6)
    check(of, field, value)


@attrs.frozen(kw_only=True)
class Train:
    """The table [train]."""

    steps: int = setting(help="optimizer steps, K", check=_from(1))
    batch_size: int = setting(64, "samples a step, over all processes", check=_from(1, 10**6))
    seed: int = setting(0, "seed of every draw", check=_v.ge(0))
    precision: str = setting("float32", "float32, tf32, bf16 or fp16", check=_v.in_(PRECISIONS))
    deterministic: bool = _aside(True, "kernels that give the same bits each time; false may be faster on cards")
    micro_batch: int | str | None = _aside(None, "samples at a time, or auto, if not all fit", check=_maybe(_part))
    compile: bool | str = _aside(False, "compile the networks: true, or a mode of torch.compile", check=_v.in_(COMPILE))
    threads: int | None = _aside(None, "CPU threads; torch's own choice if not given", check=_maybe(_from(1, 4096)))
    log_every_steps: int = _aside(50, "steps between figures", check=_from(1))
    save_every_steps: int = _aside(500, "steps between checkpoints", check=_from(1))
    sample_every_steps: int = _aside(0, "steps between sample grids; 0 for none", check=_from(0))
    keep_checkpoints: int = _aside(2, "newest checkpoints kept, the final one among them", check=_from(2))
    keep_every_steps: int = _aside(0, "also keep the checkpoints of every so many steps; 0 for none", check=_from(0))
    keep_final: str = _aside("all", "the final checkpoint holds all, or weights", check=_v.in_(("all", "weights")))
    timeout_min: float = _aside(10.0, "minutes to wait for another process", check=_v.gt(0))

    @property
    def kernels(self) -> str:
        """How it is computed, in words; what is not `precision` changes roundings alone."""
        how = "deterministic" if self.deterministic else "fastest"
        return f"{self.precision}, {how}{', compiled' * bool(self.compile)}"


@attrs.frozen(kw_only=True)
class Evaluate:
    """The table [evaluate]."""

    protocol: Any = slot("protocol", "edm-fid", "how samples become images, how many, how often", identity=False)
    samples: int | None = _aside(None, "samples of a figure; or the protocol's number", check=_maybe(_from(2, 10**9)))
    seeds: int | None = _aside(None, "how often, from seed on; or the protocol's number", check=_maybe(_from(1, 10**4)))
    steps: tuple[int, ...] = _aside((1,), "numbers of sampling steps", check=_STEPS)
    every_steps: int = _aside(0, "also evaluate every so many training steps; 0 for never", check=_from(0))
    seed: int = _aside(0, "seed of the latents", check=_v.ge(0))
    weights: str = _aside("ema", "ema, raw, or the name of another average")
    labels: str = _aside("data", "as often as in the training data, or evenly", check=_v.in_(("data", "evenly")))
    reference: Path | None = setting(None, "statistics (.h5, .npz) to compare with, not training data", identity=False)
    best: str = _aside("", "keep the checkpoint best by this figure, such as fd.fd@1; needs every_steps", check=_FIGURE)

    def fits(self, recipe: Recipe) -> None:
        """Raises RecipeError where the weights, or the figure of `best`, will not be there, as far as metrics tell."""
        if self.weights not in recipe.weights:
            raise RecipeError("weights", f"there are none named {self.weights!r}", f"there are {names(recipe.weights)}")
        (table, _, figure), n = self.best.partition("@")[0].partition("."), self.best.rpartition("@")[2]
        figures = {m: getattr(metric, "figures", ()) for m, metric in recipe.metrics.items()}
        if self.best and not self.every_steps:
            raise RecipeError("best", "nothing is evaluated during training", "set evaluate.every_steps")
        known = figure in (figures.get(table) or (figure,)) and table in figures
        if self.best and not (known and n in map(str, self.steps)):
            there = names(f"{m}.{f}" for m, known in figures.items() for f in known or ("…",))
            hint = f"figures: {there}; numbers of steps: {names(map(str, self.steps))}"
            raise RecipeError("best", f"there will be no figure {self.best!r}", hint)

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
    averages: dict[str, Any] = attrs.field(factory=dict)
    metrics: dict[str, Any] = attrs.field(factory=dict)
    trackers: dict[str, Any] = attrs.field(factory=dict)
    places: Places = attrs.field(factory=Places, eq=False, repr=False)
    notices: tuple[str, ...] = attrs.field(default=(), eq=False)

    @property
    def weights(self) -> tuple[str, ...]:
        """The weights that a run of it has, by name."""
        return "ema", "raw", *self.averages

    def tree(self) -> Tree:
        """The resolved recipe as plain tables, every default written out."""
        tree: Tree = {"genkit": self.genkit, "name": self.name}
        for name in ("dataset", "objective", "optimizer", "ema", "train", "levels", "init", "evaluate"):
            tree[name] = resolving.plain(getattr(self, name))
        if not self.init.origin:
            del tree["init"]
        slots = {n: v for n, v in tree["objective"].items() if isinstance(v, dict)}
        tree["objective"] = {n: v for n, v in tree["objective"].items() if n not in slots}
        for name in toml.NAMED:
            if components := getattr(self, name):
                tree[name] = {n: resolving.plain(c) for n, c in components.items()}
        return {**tree, **slots}

    def toml(self) -> str:
        """The resolved recipe as one file."""
        return tomli_w.dumps(self.tree())

    def protocol(self) -> dict[str, Any]:
        """What figures depend on besides the weights; evaluations that differ here are never compared."""
        evaluate = self.evaluate
        return {
            "protocol": resolving.plain(evaluate.protocol),
            "published": {"samples": evaluate.protocol.samples, "seeds": evaluate.protocol.seeds},
            "samples": evaluate.count,
            "seeds": list(evaluate.all_seeds),
            "weights": evaluate.weights,
            "levels": resolving.plain(self.levels),
            "sampler": resolving.plain(self.objective.sampler),
            "metrics": {n: resolving.plain(c) for n, c in self.metrics.items()},
        }

    def evaluations_after(self, k: int) -> int:
        """How many evaluations a run has before it once k steps are taken, the final one among them."""
        every, total = self.evaluate.every_steps, self.train.steps
        between = (total - 1) // every - min(k, total - 1) // every if every else 0
        return between + 1 if self.metrics else 0


CORE_TABLES: dict[str, type] = {"train": Train, "levels": Levels, "init": Source, "evaluate": Evaluate}


def other_evaluation(evaluate: Evaluate, settings: Mapping[str, Any]) -> Evaluate:
    """The table [evaluate] with some settings changed, checked as if they stood in a recipe."""
    problems: list[GenkitError] = []
    table = {**resolving.plain(evaluate), **settings}
    made: Evaluate = resolving.settings(Evaluate, table, ("evaluate",), problems, Places())
    resolving.stop(problems)
    return made
