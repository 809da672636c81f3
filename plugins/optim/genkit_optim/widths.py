"""A power-function average of any width, made afterwards of the averages that a run's checkpoints keep.

Source: Karras et al. 2024 (arXiv 2312.02696), section 3.2 and appendix C.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy
import torch
from safetensors.torch import save_file

from genkit.data import atomic
from genkit.errors import RecipeError
from genkit.kernel.recipe import Recipe
from genkit.kernel.resolving import component
from genkit.runs import models, store
from genkit.training import checkpoint
from genkit.training.state import below, place
from genkit_optim.ema import Power, gamma_of


class Profile(NamedTuple):
    """How an average after t steps weighs them: p(s) = (gamma + 1) s^gamma / t^(gamma + 1) for s in [0, t]."""

    gamma: float
    t: int


def product(a: Profile, b: Profile) -> float:
    """The integral of p_a p_b over s: with the lesser t, m,

    (gamma_a + 1) (gamma_b + 1) / (gamma_a + gamma_b + 1) (m / t_a)^(gamma_a + 1) (m / t_b)^(gamma_b + 1) / m.
    """
    m, (one, other) = min(a.t, b.t), (a.gamma + 1, b.gamma + 1)
    return one * other / (one + other - 1) * (m / a.t) ** one * (m / b.t) ** other / m


def fitted(profiles: Sequence[Profile], wanted: Profile) -> tuple[list[float], float]:
    """The x that make sum_i x_i p_i closest to the profile that is wanted in L2; and how far it is off, over its norm.

    The products are those of profiles scaled to norm 1, so that long and short ones count alike.
    """
    norms = numpy.array([product(p, p) ** 0.5 for p in profiles])
    target = product(wanted, wanted) ** 0.5
    gram = numpy.array([[product(p, q) for q in profiles] for p in profiles]) / numpy.outer(norms, norms)
    aims = numpy.array([product(p, wanted) for p in profiles]) / (norms * target)
    x = numpy.linalg.lstsq(gram, aims, rcond=None)[0]
    off = max(0.0, 1 - 2 * x @ aims + x @ gram @ x) ** 0.5
    return [float(value) for value in x * target / norms], off


class Made(NamedTuple):
    """An average that was made: its file, of how many averages, and how far its profile is off."""

    path: Path
    parts: int
    error: float


def make(run: str | Path, sigma_rel: float, at: str = "latest") -> Made:
    """Write the power-function average of a width as it would stand in a checkpoint, into that checkpoint.

    Raises:
        GenkitError: There is no such run, it keeps no power-function averages, or has weights of that name.
    """
    wanted = component("ema", "power", sigma_rel=sigma_rel)
    folder, recipe = models.reopen(run, lenient=True)
    kept, name = tracked(recipe), f"power-{sigma_rel:g}"
    if not kept:
        hint = 'a recipe asks for them by [averages.NAME] use = "power"; two of them serve best'
        raise RecipeError(folder, "keeps no averages of kind power", hint)
    if name in recipe.weights:
        raise RecipeError("--sigma-rel", f"{folder.name} has weights named {name!r}", "sample them, or another width")
    with store.held(folder):
        target = checkpoint.chosen(folder / "checkpoints", at)
        return _write(folder, target, name, wanted, kept)


def tracked(recipe: Recipe) -> dict[str, float]:
    """The powers of a recipe's power-function averages, by name."""
    rules = {"ema": recipe.ema, **recipe.averages}
    return {name: gamma_of(rule.sigma_rel) for name, rule in rules.items() if isinstance(rule, Power)}


def _write(folder: Path, target: Path, name: str, wanted: Power, kept: dict[str, float]) -> Made:
    last = checkpoint.step_of(target)
    paths = [p for p in checkpoint.present(target.parent) if 0 < checkpoint.step_of(p) <= last]
    parts = [(path, which) for path in paths for which in kept]
    profiles = [Profile(kept[which], checkpoint.step_of(path)) for path, which in parts]
    x, error = fitted(profiles, Profile(gamma_of(wanted.sigma_rel), last))
    share = dict(zip(parts, x, strict=True))
    total: dict[str, torch.Tensor] = {}
    for path in paths:
        tensors, _ = checkpoint.load(path)
        for which in kept:
            for n, t in below(tensors, place(which)).items():
                total[n] = total.get(n, 0.0) + share[path, which] * t.double()
    state = models.load(folder, "raw", "cpu", str(last)).network.state_dict()
    state = {n: total[n].to(t.dtype) if n in total else t for n, t in state.items()}
    file = models.derived(target, name)
    with atomic.replacing(file, sum(t.nbytes for t in state.values())) as partial:
        save_file({n: t.contiguous().clone() for n, t in state.items()}, partial, {"sigma_rel": f"{wanted.sigma_rel}"})
    return Made(file, len(parts), error)
