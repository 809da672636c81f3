"""Minibatch optimal transport."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from genkit.errors import RecipeError
from genkit.kernel.recipe import Recipe
from genkit.kinds import Context, Coupled


@attrs.frozen(kw_only=True)
class OptimalTransport:
    """The noise of a batch, dealt out so that it is moved least.

    Sample i gets eps_P(i), with P the permutation that makes the sum of |x0_i - eps_P(i)|^2 least, whatever scale eps
    has beside x0. It is exact, among the samples of one process: another number of processes is another coupling, and
    micro-batches are refused. The noise of a batch stays what it was, so that samples start from N(0, I). Within a
    class it does not: the samples of a model with classes then start elsewhere than its training.

    The assignment is solved on the CPU, in time B^3 at worst: each step waits for the device.

    Source: Pooladian et al. 2023 (arXiv 2304.14772), section 3; Tong et al. 2023 (arXiv 2302.00482).
    """

    def fits(self, recipe: Recipe) -> None:
        """Raises RecipeError where micro-batches would cut the batch that noise is dealt out in."""
        part = recipe.train.micro_batch
        if part == "auto" or int(part or recipe.train.batch_size) < recipe.train.batch_size:
            what = f"pairs within whole batches, and train.micro_batch = {part} cuts them"
            raise RecipeError("use", what, "leave train.micro_batch out")

    def build(self, context: Context) -> OptimalTransport:
        return self

    @torch.no_grad()
    def __call__(self, x0: Tensor, eps: Tensor, cond: Mapping[str, Tensor], n: int = 0) -> Coupled:
        along = x0.flatten(1).cpu().double() @ eps.flatten(1).cpu().double().T  # all that differs between permutations
        _, order = linear_sum_assignment(along.numpy(), maximize=True)
        return Coupled(eps[torch.from_numpy(order).to(eps.device)])
