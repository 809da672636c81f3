"""CTM's path where there is no diffusion model."""

from __future__ import annotations

import functools

import attrs

from genkit.errors import RecipeError
from genkit.kinds import Context, setting
from genkit_ctm.parameterization import denoised
from genkit_diffusion.paths import SOLVERS, OdeStep


@attrs.frozen(kw_only=True)
class OwnOde:
    """A solver's step along the student's own ODE, by its g(x, t, t).

    For students of two times. With it CTM needs no diffusion model: the denoising loss makes g one.

    Source: Kim et al. 2023 (arXiv 2310.02279), section 5 on training without a pretrained model.
    """

    solver: str = setting("heun", "heun or euler", check=attrs.validators.in_(tuple(SOLVERS)))

    def build(self, context: Context) -> OdeStep:
        """The step of `context.student`.

        Raises:
            RecipeError: There is none.
        """
        if context.student is None:
            raise RecipeError("path", "own-ode follows a student, and none is told", "build it within an objective")
        return OdeStep(model=functools.partial(denoised, context.student), solver=SOLVERS[self.solver])
