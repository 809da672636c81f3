"""The whole extension contract: what a plugin may offer, on one screen.

A plugin is a distribution with one entry point in group `genkit`, which names a module that imports
neither torch nor its own components:

    from genkit.hookspecs import hookimpl, lazy

    GENKIT_API = 1

    @hookimpl
    def genkit_loss():
        return {"cauchy": lazy("genkit_cauchy.losses:Cauchy", "Cauchy loss log(1 + |x - y|^2 / c^2).")}

A component hook returns {name: lazy("package.module:Class", summary)}; the summary is the first line
of the class's docstring. What a component of a kind is and does stands in `genkit.kinds`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from genkit.keys import Key

API = 1
hookspec = pluggy.HookspecMarker("genkit")
hookimpl = pluggy.HookimplMarker("genkit")


class Lazy(NamedTuple):
    """Where something is, `package.module:name`, and one line about it; imported when used."""

    target: str
    summary: str


lazy = Lazy
Offer = Mapping[str, Lazy]


# One hook per kind of component.
@hookspec
def genkit_dataset() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_network() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_parameterization() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_curriculum() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_noise() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_pairs() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_coupling() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_loss() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_weighting() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_path() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_teacher() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_objective() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_optimizer() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_ema() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_sampler() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_features() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_metric() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_protocol() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_tracker() -> Offer: ...  # type: ignore[empty-body]
@hookspec
def genkit_launcher() -> Offer: ...  # type: ignore[empty-body]


# Everything else that a plugin can bring.
@hookspec
def genkit_components() -> Mapping[str, Offer]:  # type: ignore[empty-body]
    """Components of kinds that plugins added, by kind."""
@hookspec
def genkit_kinds() -> Offer:  # type: ignore[empty-body]
    """New kinds: lazies to `genkit.kinds.Kind` objects; their components come by `genkit_components`."""
@hookspec
def genkit_recipes() -> str:  # type: ignore[empty-body]
    """The package whose *.toml files are recipes."""
@hookspec(firstresult=True)
def genkit_find(kind: str, use: str, where: str, folder: Path, by_hand: bool) -> Any:
    """The `ComponentInfo` of a class that no plugin offers, if `use` names one, such as by a path from `folder`.

    `by_hand` tells whether a user has named the file that says so: what else it brings is not to be trusted.
    """


@hookspec
def genkit_recipe_kept(path: Path, recipe: Any) -> None:
    """A resolved recipe was written to `path`, in a run folder or for a trial: what it needs can be put beside it."""


@hookspec
def genkit_commands() -> Offer:  # type: ignore[empty-body]
    """Commands `genkit NAME …`: functions with typer's annotations, or typer apps; "data pack" joins group `data`."""
@hookspec
def genkit_weights() -> Offer:  # type: ignore[empty-body]
    """Public files that components need: lazies to `genkit.data.PublicFile` constants, for `genkit weights`."""
@hookspec
def genkit_converters() -> Offer:  # type: ignore[empty-body]
    """Readers of others' weights, for `genkit weights convert`: functions of a path to `genkit.data.Weights`."""
@hookspec(firstresult=True)
def genkit_model(path: Path) -> Any:
    """The denoiser in a file or folder that is no run, to be sampled, evaluated or started from; None if not yours."""


@hookspec(firstresult=True)
def genkit_lease(path: Path) -> Any:
    """A context that holds a file against other machines where locks of the disk do not; None where they do.

    Its `holder` is host and pid of who has it now, or empty. To enter it raises CheckpointError if another has it.
    """


# A run's life, called on the first process alone. Each gets the key of the step that was just taken, from which
# it draws if it must: the default generator is not to be touched.
@hookspec
def genkit_try(planned: Any) -> None:
    """Before a run is begun, and by `--dry-run`: try it, keep nothing, and raise what would end it later."""
@hookspec(firstresult=True)
def genkit_progress(stream: TextIO) -> Any:
    """A context of a `genkit.kinds.Watch` that shows progress on a terminal or in the notebook; None without either."""
@hookspec(firstresult=True)
def genkit_html(result: Any) -> str | None:
    """How a notebook shows what genkit gives: a `RunResult`, a study; None for what is not one's own."""
@hookspec(firstresult=True)
def genkit_step_seconds(planned: Any) -> float | None:
    """Seconds of a step on the plan's device, uncompiled, found out within seconds: for `--dry-run` and studies."""
@hookspec
def genkit_run_start(folder: Path, recipe: Any, key: Key) -> None:
    """Training begins or goes on; not called where a finished run is only reported."""
@hookspec
def genkit_step_end(state: Any, figures: Mapping[str, Any], key: Key) -> None:
    """A step was taken; figures are device scalars of this process's share, and reading one waits for the device."""
@hookspec
def genkit_evaluated(folder: Path, figures: Mapping[str, float], key: Key) -> Iterable[str] | None:
    """Figures such as {"fd.fd@1": 0.5} were measured; may give what is to be said of them, few lines with a remedy."""
@hookspec
def genkit_checkpoint_saved(folder: Path, checkpoint: Path, key: Key) -> None:
    """A checkpoint stands and was verified."""
@hookspec
def genkit_run_end(folder: Path, outcome: str, key: Key) -> None:
    """The run leaves, evaluated if it got so far: done, diverged, preempted or failed."""
@hookspec
def genkit_notes(planned: Any, training: bool) -> Iterable[str]:  # type: ignore[empty-body]
    """What to say before the time of a training, or of an evaluation alone, is spent: few lines, each with a remedy."""
@hookspec
def genkit_report(folder: Path) -> Path:  # type: ignore[empty-body]
    """A run is done, or was evaluated anew: tell of it, for instance on a page; gives what was written, for people."""
