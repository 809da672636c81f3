"""Consistency distillation: the pair is made by a trained diffusion model."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
from torch import Tensor

from genkit import build, component
from genkit.data import weights
from genkit.denoiser import Denoiser
from genkit.errors import RecipeError
from genkit.kinds import Context, Source, Spec, setting, source
from genkit_diffusion.guidance import guided
from genkit_diffusion.parameterization import EdmScalings
from genkit_diffusion.solvers import euler_step, heun_step

SOLVERS = {"heun": heun_step, "euler": euler_step}


@attrs.frozen(kw_only=True)
class Ode:
    """A solver's step of a trained diffusion model from t to r: consistency distillation.

    The model is frozen and no part of what is trained or saved. A weights file has EDM's scalings, and the network
    that it describes, as those of `genkit weights convert` do, else the student's.

    Source: Song et al. 2023 (arXiv 2303.01469), algorithm 2; guidance: Ho & Salimans 2022 (arXiv 2207.12598).
    """

    model: Source = source("the diffusion model: a run, recipe:NAME, or a weights file")
    solver: str = setting("heun", "heun or euler", check=attrs.validators.in_(tuple(SOLVERS)))
    guidance_scale: float = setting(
        1.0, "w in D(x; null) + w (D(x; label) - D(x; null)); 1: none", check=attrs.validators.ge(0)
    )

    def build(self, context: Context) -> OdeStep:
        """The step, with the model loaded and frozen.

        Raises:
            GenkitError: No model is named, or it makes samples of another shape or other classes, or is no
                diffusion model, or has no null class for guidance; or its weights do not fit.
        """
        if not self.model.origin:
            raise RecipeError("path.model", "names no diffusion model", 'set path.model.from, such as "recipe:NAME"')
        if not context.training:
            return OdeStep(model=_untold, solver=SOLVERS[self.solver])
        path = Path(self.model.origin)
        model = _from_file(path, context) if path.suffix == ".safetensors" else context.load(self.model)
        _require_diffusion(self.model.origin, model)
        _require_fit(self.model.origin, model, context)
        call: Callable[..., Tensor] = model
        if self.guidance_scale != 1:
            _require_null_class(self.model.origin, model)
            call = guided(model, self.guidance_scale, model.spec.classes)
        return OdeStep(model=call, solver=SOLVERS[self.solver])


@attrs.frozen(kw_only=True)
class OdeStep:
    """The path: x_r from x_t by one step of the solver. It is no module, so that no program saves the model."""

    model: Callable[..., Tensor]
    solver: Callable[..., Tensor]

    def __call__(
        self, x_t: Tensor, t: Tensor, r: Tensor, x0: Tensor, eps: Tensor, cond: Mapping[str, Tensor]
    ) -> Tensor:
        return self.solver(self.model, x_t, t, r, cond)


def _untold(*given: object) -> Tensor:
    raise RecipeError("path.model", "was not loaded: the path was built for sampling", "build it with training = True")


def _from_file(path: Path, context: Context) -> Denoiser:
    """The network that a weights file describes, else the student's, with the file's weights; frozen."""
    told, state, spec = weights.info(path), weights.load(path), context.spec
    if "network" in told:
        spec, table = Spec(**json.loads(told["spec"])), json.loads(told["network"])
        network = build(
            component("network", table.pop("use"), **table), attrs.evolve(context, spec=spec, times=1, out_channels=0)
        )
    elif context.student is not None:
        network = copy.deepcopy(context.student.network)
    else:
        raise RecipeError("path.model.from", f"{path} says nothing of its network", "name a run")
    weights.fit(network, state, path)
    network.load_state_dict(state)
    model = Denoiser(network, EdmScalings(sigma_data=spec.sigma_data), spec)
    return model.to(context.device).eval().requires_grad_(False)


def _require_diffusion(origin: str, model: Denoiser) -> None:
    predicts = "denoised" if model.objective is None else model.objective.predicts
    if predicts != "denoised":
        what = f"{origin} predicts {predicts}, and an ODE is followed by a model that predicts denoised"
        raise RecipeError("path.model", what, "name a run of objective diffusion")


def _require_fit(origin: str, model: Denoiser, context: Context) -> None:
    """The model and the data have samples of one shape, and one set of classes unless the model has none."""
    made, wanted = model.spec, context.spec
    if made.shape != wanted.shape:
        shapes = ["x".join(map(str, spec.shape)) for spec in (made, wanted)]
        what = f"{origin} makes samples of {shapes[0]}, the data are {shapes[1]}"
        raise RecipeError("path.model", what, "name a model of such data")
    if made.classes not in (0, wanted.classes):
        what = f"{origin} knows {made.classes} classes, the data have {wanted.classes}"
        raise RecipeError("path.model", what, "give it the labels that it was trained with, dataset.labels = true")


def _require_null_class(origin: str, model: Denoiser) -> None:
    dropped = getattr(model.objective, "label_drop", 1.0)  # of a weights file nobody knows
    if not model.spec.classes or not dropped:
        what = f"guidance needs a null class, and {origin} was trained " + (
            "with every label" if model.spec.classes else "without classes"
        )
        raise RecipeError("path.guidance_scale", what, "train it with objective.label_drop = 0.1, or leave it at 1")
