"""The contracts, all on one page: what a component of each kind is. API 1.

A *component* is a frozen, keyword-only attrs class: its fields (`setting`, `slot`, `source`) are the
keys of its table in a recipe, the first line of its docstring is its summary. Components of most kinds
`build(context)` the thing that works; the few in whose row of `KINDS` `builds` is false are that thing
themselves. `genkit.build(component, context)` serves both. An optional class attribute `revision`
(1 if absent) is raised when the results of a component or one of its defaults change. Another, `former`, has settings
that are gone, each with the value that is as now: recipes and records of runs that have it stay readable.

A component whose settings must suit other tables may have `fits(recipe)`. It is called when the whole recipe is
resolved, before anything is built, and raises `RecipeError(setting, what, hint)` where they do not.

Shapes: B samples of `(C, H, W)`; levels `(B,)` are standard deviations of the noise in data units;
r < t are a pair of them: the teacher sees r, the student t, with the same x0 and eps.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Required, Self, TypedDict

import attrs

from genkit.levels import Levels

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from genkit.denoiser import Denoiser, Scalings
    from genkit.keys import Key

# ---- fields of a component ---------------------------------------------------------------------


MUST = attrs.NOTHING  # what a setting has in place of a default, if a recipe must give it


def setting(
    default: Any = MUST, help: str = "", *, check: Any = None, identity: bool = True, key: str = "", finite: bool = True
) -> Any:
    """A field that a recipe may set; without a default it must.

    Args:
        default: Its value where the recipe is silent.
        help: One line: meaning, unit, source.
        check: An attrs validator, such as `attrs.validators.gt(0)`, or a list of them.
        identity: Whether it can change trained weights, and so belongs to a run's id.
        key: Its name in a recipe, where Python forbids it.
        finite: Whether inf and nan are refused, also within lists; False where one of them means something.
    """
    metadata = {"help": help, "identity": identity, "key": key, "finite": finite}
    checks = check if isinstance(check, list) else [check] if check else []
    return attrs.field(default=default, validator=[require_numbers, *checks], metadata=metadata)


def require_numbers(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse numbers that are not finite, and whole ones that TOML, with its 64 bits, does not have.

    Raises:
        ValueError: There is one, be it within lists.
    """
    if isinstance(value, list | tuple):
        for each in value:
            require_numbers(_, field, each)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a whole number beyond 64 bits")
    elif isinstance(value, float) and not math.isfinite(value) and field.metadata.get("finite", True):
        raise ValueError(f"expected a finite number, got {value}")


def slot(
    kind: str, default: str | None = None, help: str = "", *, identity: bool = True, before: str = "", **settings: Any
) -> Any:
    """A field that holds a component of `kind`: in a recipe, the nested table of its name.

    Args:
        kind: A key of `KINDS`.
        default: The component that a recipe gets when it names none; `None` makes it required.
        before: What was done before there was this slot, as `distribution/name@revision`: while the slot holds that,
            it stays out of a run's id, and runs from before keep theirs.
        settings: Of that default, where its own are not meant; a recipe that names a component gets its own.
    """
    metadata = {"slot": kind, "use": default, "with": settings, "help": help, "identity": identity, "before": before}
    return attrs.field(metadata=metadata)


@attrs.frozen(kw_only=True)
class Source:
    """A trained model, as a recipe names it; `context.load(source)` gives the denoiser."""

    origin: str = setting("", "RUN, weights file, or recipe:NAME for the finished run of a recipe", key="from")
    weights: str = setting("ema", "ema, raw, or the name of another average of it")


def source(help: str = "") -> Any:
    """A field that holds a `Source`: in a recipe, `[path.model] from = "recipe:edm_digits"`."""
    return attrs.field(factory=Source, metadata={"source": True, "help": help, "identity": True})


# ---- what components are told ------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Spec:
    """What samples are: shape, number of classes (0: unconditional), dtype, scale, symmetry.

    Attributes:
        dtype: "uint8" (scaled to [-1, 1] and flipped by the core) or "float32" (used as it is).
        sigma_data: Standard deviation of the data; 0.5 for images in [-1, 1].
        flip: Whether a mirrored sample is as good as the sample.
        counts: How many training samples each class has; empty where that is not known.
        augment: How many numbers tell how a training sample was changed, `cond["augment"]`; 0: samples are as they are.
    """

    channels: int
    height: int
    width: int
    classes: int = 0
    dtype: str = "uint8"
    sigma_data: float = 0.5
    flip: bool = False
    counts: tuple[int, ...] = attrs.field(default=(), converter=tuple)
    augment: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    @property
    def size(self) -> int:
        """Numbers per sample, d."""
        return self.channels * self.height * self.width


def _no_models(source: Source) -> Denoiser:
    raise ValueError(f"model {source.origin!r}: no runs are at hand here")


@attrs.frozen(kw_only=True)
class Setup:
    """What a data set is told."""

    device: str = "cpu"
    seed: int = 0
    levels: Levels = attrs.field(factory=Levels)
    cache_dir: Path | None = None
    folder: Path | None = None  # where paths start that are still relative; those of recipes are not


@attrs.frozen(kw_only=True)
class Context(Setup):
    """What every other component is told."""

    spec: Spec
    data: str = ""  # identity of the data set's content
    dataset: Any = None  # its component, where it is at hand
    total_steps: int = 0  # planned length K of the training, for what changes over it; 0: not told
    student: Denoiser | None = None
    load: Callable[[Source], Denoiser] = _no_models
    times: int = 1  # numbers per sample in a network's c_noise: 2 for models of two times
    out_channels: int = 0  # of what a network gives; 0: as many as samples have
    training: bool = True  # False where a model is loaded to be sampled: what only training needs can be left out


class Batch(NamedTuple):
    """Samples and their conditioning, first axis B. `cond["label"]` is int64; `classes` is "none".

    `cond["augment"]` is float32 (B, spec.augment); zeros, and none at all, mean "as it is".
    """

    x: Tensor
    cond: dict[str, Tensor]

    def rows(self, start: int, stop: int) -> Batch:
        return Batch(self.x[start:stop], {name: c[start:stop] for name, c in self.cond.items()})


class At(NamedTuple):
    """Where on the way a loss is asked: levels t, r (B,), step k, grid points n."""

    t: Tensor
    r: Tensor
    k: int
    n: int


class Sampled(NamedTuple):
    """What a metric is fed: uint8 images, their features, their conditioning."""

    images: Tensor
    features: dict[str, Tensor]
    cond: dict[str, Tensor]


# ---- the contracts -----------------------------------------------------------------------------


class Data(Protocol):
    """Built by a `dataset` component from a `Setup`; a sequence of samples.

    `identity` hashes the content, whatever its path. `held_out` are samples never trained on, or None. An attribute
    `notices`, a tuple of lines, is optional: what a run says as it starts, such as which files were left out. So is
    `labels`, int64 (N,), those of all samples: by their shares the labels of generated samples are drawn, else evenly.
    So is `augment`, a function (Batch, Key) -> Batch that changes prepared training batches, and only these, and tells
    networks how by `cond["augment"]`; a component's settings whose names begin with `augment` are for it alone.
    So is `ahead`, for data that are read as they are needed: (chosen, first) -> an endless iterator of the batches of
    steps first, first + 1, …, of the samples chosen(k). `genkit.data.Resident` is ready-made.
    """

    @property
    def spec(self) -> Spec: ...
    @property
    def identity(self) -> str: ...
    @property
    def held_out(self) -> Data | None: ...
    def __len__(self) -> int: ...
    def batch(self, indices: Tensor, key: Key) -> Batch:
        """Samples by index (int64, CPU), x in the spec's dtype, on the setup's device."""

    def decode(self, x0: Tensor) -> Tensor:
        """Model space to images: uint8 (B, C, H, W)."""


class Parameterization(Protocol):
    """`(sigma, to=None)`: levels (B,) to scalings; float32 or better."""

    def __call__(self, sigma: Tensor, to: Tensor | None = None) -> Scalings: ...


class Noise(Protocol):
    """A law of noise levels on (0, inf), in float64; the core discretises it (`levels.grid`)."""

    def cdf(self, sigma: Tensor) -> Tensor: ...
    def icdf(self, u: Tensor) -> Tensor: ...


class Pairs(Protocol):
    """How levels r < t are drawn: `(noise, n, draw)` -> t, r and their gap t - r, each (B,), float32.

    `noise` is the law of levels, n = N(k) says how fine they are. `draw()` gives uniform numbers in [0, 1), float64
    (B,), the same each time; `draw(1)` gives others, and so on. A row depends on its own numbers alone. The gap is made
    in float64. r may be 0: there no model is asked, and the target is x_r itself.
    """

    def __call__(self, noise: Noise, n: int, draw: Callable[..., Tensor]) -> tuple[Tensor, Tensor, Tensor]: ...


class Coupled(NamedTuple):
    """Noise that is paired with samples, (B, *), and what each sample's loss gets for it, (B,), if anything."""

    eps: Tensor
    loss: Tensor | float = 0.0


class Coupling(Protocol):
    """How data and noise are paired: `(x0, eps, cond, n)` -> eps', where eps are unit normals, (B, *).

    So are eps' over all data, or they come at a price that makes them so: samples start from unit normals. n = N(k)
    says how fine levels are; 0 where there is no such number. A coupling that learns is an nn.Module, whose parameters
    the program then trains and saves. It is called within `key.reseeded`.
    """

    def __call__(self, x0: Tensor, eps: Tensor, cond: Mapping[str, Tensor], n: int = 0) -> Coupled: ...


class LossFunction(Protocol):
    """The metric d(x, y), one value per sample: (B, *), (B, *) -> (B,), float32 or better."""

    def __call__(self, x: Tensor, y: Tensor, at: At | None = None) -> Tensor: ...


class Weighting(Protocol):
    """lambda(t, r), (B,). `gap` is t - r from float64 differences: prefer it to subtracting."""

    def __call__(self, t: Tensor, r: Tensor | None = None, gap: Tensor | None = None) -> Tensor: ...


class Path_(Protocol):
    """How the pair is made: `x_r` from `x_t`, called without gradient. r may be 0: where its slope at x_t points."""

    def __call__(
        self, x_t: Tensor, t: Tensor, r: Tensor, x0: Tensor, eps: Tensor, cond: Mapping[str, Tensor]
    ) -> Tensor: ...


class Teacher(Protocol):
    """Whose weights answer at r. No-grad and dropout seeds are the objective's business.

    `init` returns who answers, called as a denoiser is: the student itself; another `Denoiser`, which the
    program then owns and saves; or a function of the two and of frozen models, which nobody saves.
    `update` follows each optimizer step, `intervals` = N(k) - 1.
    """

    def init(self, student: Denoiser) -> Callable[..., Tensor]: ...
    def update(self, teacher: Callable[..., Tensor], student: Denoiser, intervals: int) -> None: ...


class Sampler(Protocol):
    """`(denoiser, draw, cond, steps) -> x0`; `draw(j)` is the j-th unit normal of the batch.

    `steps` is a number of steps, or the levels themselves as a descending sequence after the first.
    """

    def __call__(
        self,
        denoiser: Callable[..., Tensor],
        draw: Callable[[int], Tensor],
        cond: Mapping[str, Tensor],
        steps: int | Sequence[float],
    ) -> Tensor: ...
    def nfe(self, steps: int | Sequence[float]) -> int:
        """Network calls per sample."""


class Accumulator(Protocol):
    """Built by a `metric` component: fed real and generated samples, merged over ranks.

    The component says by a class attribute `better`, "lower" or "higher", which way its figures improve, and may say
    by `alone = True` that it looks at generated samples alone, so that it needs no reference, by `least`, a number,
    how few images of a kind it can make figures of, and by `figures` the names of those that models can be compared by.

    What looks at the data only once in many evaluations has more, all of it optional:

        floors() -> dict[str, float]: figures `<name>_floor`, what perfect samples would score at the same
            counts; asked after samples were fed, once for all evaluations at that count.
        reference() -> dict[str, Tensor]: the training and held-out side, by names such as "pool/mean" and
            "held_out/pool/mean"; kept between evaluations.
        refer(arrays) -> bool: take such arrays in place of updates with training data; False, and nothing
            is taken, where they do not suffice.
    """

    def update(self, sampled: Sampled, real: bool | str) -> None:
        """`real` is False for generated samples, True for training data, "held-out" for the rest."""

    def merge(self, other: Self) -> None: ...
    def compute(self) -> dict[str, float]: ...


# Components that are the thing itself.


class Protocol_(Protocol):
    """How published figures are made: samples to images, how many of them, how often.

    Attributes:
        samples, seeds: What is published is made from so many samples, drawn so many times.
        shape: (C, H, W) of the only images that it is for; None for any.
    """

    samples: int
    seeds: int
    shape: tuple[int, int, int] | None

    def quantise(self, x0: Tensor) -> Tensor:
        """Images in [-1, 1], and beyond, to uint8."""


class Curriculum(Protocol):
    """`(k, total_steps)` -> N(k), the number of grid points."""

    def __call__(self, k: int, total_steps: int) -> int: ...


class Optimizer(Protocol):
    """Builds a torch optimizer for named parameters; `lr_scale` multiplies its rate at step k.

    It may sort them into parameter groups, each with an `lr` and numbers of its own. What it keeps of a parameter, and
    the numbers of its group, stand in a checkpoint by the parameter's name.
    """

    def optimizer(self, params: list[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer: ...
    def lr_scale(self, k: int, total_steps: int) -> float: ...


class Ema(Protocol):
    """beta of a running average at step k: that of the table [ema], or a further one of [averages.NAME]."""

    def beta(self, k: int, batch_size: int) -> float: ...


@attrs.frozen(kw_only=True)
class TrackedRun:
    """The run that a tracker is opened for.

    Attributes:
        folder: The run folder; a tracker keeps its own files in a folder of it, if it has any.
        key: Letters, digits and hyphens: another for each run folder, the same whenever its run is resumed.
        recipe: All tables, as `recipe.toml` has them.
        k: The number of steps that were taken before; above 0 the run is resumed.
        study: The study whose trial it is, and its `arm`; both empty if it is none.
    """

    folder: Path
    key: str
    recipe: Mapping[str, Any]
    k: int = 0
    study: str = ""
    arm: str = ""


class Session(Protocol):
    """What a tracker is told of one run, by the first process alone, in order of the steps.

    A resumed run tells anew, and the same, of the steps that it takes again.
    """

    def scalars(self, k: int, figures: Mapping[str, float]) -> None:
        """Finite numbers after k steps: those of training, among them `images_per_sec` and `lr`, or an evaluation's."""

    def images(self, k: int, name: str, picture: Tensor) -> None:
        """A picture of samples after k steps: uint8 (C, H, W), grey or RGB."""

    def close(self, outcome: str) -> None:
        """The last that it hears; done, diverged, preempted (the run can be resumed) or failed."""


class Tracker(Protocol):
    """Told what happens, on rank 0; one that fails is dropped, never the run."""

    def open(self, run: TrackedRun) -> Session: ...


class Event(TypedDict, total=False):
    """What happens to a run, as `watch` is told and events.jsonl keeps it; which keys it has depends on `event`.

    - "start", "resume": k, steps, batch_size
    - "step": k, figures (such as loss, N and lr), images_per_sec, elapsed and left_sec, memory (bytes)
    - "sampling": what, done, total, left_sec: samples drawn or images read; not kept
    - "evaluated": k, protocol, figures (such as "fd.fd@1"), seconds
    - "checkpoint": k
    - "notice": text
    - "end": k, outcome ("done", "diverged", "preempted" or "failed"), text
    """

    event: Required[Literal["start", "resume", "step", "sampling", "evaluated", "checkpoint", "notice", "end"]]
    time: float
    k: int
    steps: int
    batch_size: int
    figures: dict[str, float]
    images_per_sec: float
    left_sec: float | None
    elapsed: float
    memory: int
    what: str
    done: int
    total: int
    protocol: str
    seconds: float
    text: str
    outcome: str


Watch = Callable[[Event], None]


class Launcher(Protocol):
    """Runs jobs: those of a study, and other commands that are worth a machine of their own.

    Built from a `Setup` of which it is told the device, empty where nobody named one. A job is `python -m genkit` with
    the words `job.argv`, in the folder where it is submitted; its output is appended to the file `job.log`. It looks at
    its own device. What it needs: `job.cards` (0: none; 0.25: a quarter of one), `job.cpus`, and 0 if nobody knows:
    `job.memory` in bytes, `job.seconds`; `job.tryout` is true where it only tries a recipe and is over in a minute.
    One of several nodes, `job.nodes`, is started `job.processes` times on each, with RANK, LOCAL_RANK, WORLD_SIZE,
    MASTER_ADDR and MASTER_PORT as torchrun sets them, and `job.cards` are those of a node.

    A handle is a word by which any process on any machine knows the job: handles are kept on disk. What a method raises
    is told and tried again after a while, unless it is a `GenkitError`: that says what no further try mends.

    Attributes:
        slots: How many jobs run at a time, by which times are told.
        room: Optional: how many it takes in all, those among them that wait in its own queue; else `slots`.
        pause: Optional: seconds between two polls; else 2.
        shares: Optional: whether jobs that need a part of a card get no more; else those that fill one come as one job.
        spans: Optional: whether it has jobs of several nodes; else it is given none.
    """

    slots: int

    def submit(self, name: str, jobs: Sequence[Any]) -> list[str]:
        """A handle for each; where jobs were submitted under this name before, those of then, and no new ones."""

    def poll(self, handles: Sequence[str]) -> Mapping[str, int | str]:
        """Of each its exit code, or "waits", "runs", or "gone" if nothing is known of it any more."""

    def cancel(self, handles: Sequence[str]) -> None:
        """SIGTERM: what runs saves and leaves, what waits is not begun."""

    def close(self) -> None:
        """Whoever submitted leaves; a job that nobody can find again is told to save and leave."""


@attrs.frozen
class Kind:
    """A row of the table of kinds.

    Attributes:
        builds: True where a component has `build(context)` (`build(setup)` for data sets), which
            returns what `contract` describes; False where the component itself is that.
        contract: The protocol, or the class, of the working thing.
        summary: One line.
    """

    builds: bool
    contract: Any
    summary: str

    @property
    def methods(self) -> set[str]:
        """The names that the contract has, if it is one."""
        if self.contract.__module__ == "builtins":  # a type of values, which owe nothing by name
            return set()
        has = {name for name, value in vars(self.contract).items() if callable(value) or isinstance(value, property)}
        return {name for name in has if name in ("__call__", "__len__") or name[0] != "_"}


KINDS: dict[str, Kind] = {
    "dataset": Kind(True, Data, "What is learnt: build(setup) -> Data."),
    "network": Kind(
        True,
        Callable,
        "F: an nn.Module called (x, c_noise, cond), c_noise (B,) or (B, context.times), that gives "
        "context.out_channels; the same context, the same weights. `genkit.denoiser.jvp` differentiates it; a class "
        "attribute `jvp = False` says that it cannot. It may have `features`, called alike, that gives maps "
        "from its middle, (B, C', H', W') each, the finest first; and `adapted(state)`: weights to start from as it "
        "takes them, and lines on what it left out or added.",
    ),
    "parameterization": Kind(
        True,
        Parameterization,
        "Scalings c_skip, c_out, c_in, c_noise of a level; attribute `times`, 2 if of two, None if of any.",
    ),
    "curriculum": Kind(False, Curriculum, "N(k), the number of grid points at step k."),
    "noise": Kind(True, Noise, "The law of noise levels."),
    "pairs": Kind(True, Pairs, "How levels r < t are drawn."),
    "coupling": Kind(True, Coupling, "How data and noise are paired."),
    "loss": Kind(True, LossFunction, "The metric d(x, y) of an objective."),
    "weighting": Kind(True, Weighting, "lambda, the weight of a level or of a pair."),
    "path": Kind(True, Path_, "How x_r is made from x_t."),
    "teacher": Kind(True, Teacher, "Whose weights answer at the smaller level."),
    "objective": Kind(
        True, Callable, "What is minimised: attributes `predicts` and, of two levels, `times` = 2; build -> Program."
    ),
    "optimizer": Kind(False, Optimizer, "How gradients change weights."),
    "ema": Kind(False, Ema, "The decay of a running average of weights."),
    "sampler": Kind(True, Sampler, "From noise to data; class attribute `needs`, what it must be given."),
    "features": Kind(
        True,
        Callable,
        "uint8 images -> {name: (B, D)}. What is built may have `identity`, its weights' hash, and `stages(x)`, maps "
        "for a loss to compare; the component may have `require(context)`, which finds weights before a run starts.",
    ),
    "metric": Kind(True, Accumulator, "A figure of merit; never the loss. Has a slot `features` and `better`."),
    "protocol": Kind(False, Protocol_, "How samples become images, how many are compared, and how often."),
    "tracker": Kind(False, Tracker, "Where curves and pictures go besides the run folder."),
    "launcher": Kind(True, Launcher, "Where the trials of a study run: build(setup) -> Launcher."),
}


# ---- reading a component's fields --------------------------------------------------------------


def fields(cls: type) -> Iterator[tuple[str, attrs.Attribute[Any]]]:
    """A component's fields with their names in a recipe."""
    for field in attrs.fields(cls):
        yield field.metadata.get("key") or field.name, field


def slots(cls: type) -> dict[str, str]:
    """A component's slots and their kinds."""
    return {name: f.metadata["slot"] for name, f in fields(cls) if "slot" in f.metadata}


def names(items: Iterable[str]) -> str:
    """For messages: names in a row."""
    return ", ".join(sorted(items)) or "none"


def closest(name: str, among: Iterable[str], otherwise: str = "") -> str:
    """For messages: a hint at the names that were probably meant."""
    close = difflib.get_close_matches(name, sorted(among), n=2)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else otherwise
