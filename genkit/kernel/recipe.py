"""A recipe: TOML tables resolved into checked components."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import tomli_w

from genkit.errors import GenkitError
from genkit.kernel import resolving, toml
from genkit.kernel.toml import Places, Tree
from genkit.kinds import Source, setting, slot
from genkit.levels import Levels

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
    timeout_min: float = setting(10.0, "minutes to wait for another process", check=_v.gt(0), identity=False)


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
            tree[name] = resolving.plain(getattr(self, name))
        if not self.init.origin:
            del tree["init"]
        slots = {n: v for n, v in tree["objective"].items() if isinstance(v, dict)}
        tree["objective"] = {n: v for n, v in tree["objective"].items() if n not in slots}
        for name in ("metrics", "trackers"):
            if components := getattr(self, name):
                tree[name] = {n: resolving.plain(c) for n, c in components.items()}
        return {**tree, **slots}

    def toml(self) -> str:
        """The resolved recipe as one file."""
        return tomli_w.dumps(self.tree())

    def provenance(self) -> list[tuple[str, str, str]]:
        """(key, value, who wrote it) of every value."""
        rows = []

        def walk(tree: Mapping[str, Any], key: toml.Key) -> None:
            for name, value in tree.items():
                here = (*key, name)
                if isinstance(value, Mapping):
                    walk(value, here)
                else:
                    written = self.places.get(here) or self.places.get(toml.hoisted(here))
                    rows.append((".".join(here), str(value), str(written or "default")))

        walk(self.tree(), ())
        return rows

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
