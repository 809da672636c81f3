"""RAdam on torch's fused Adam kernel."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


def rectification(t: int, beta2: float) -> float | None:
    """r_t, which makes up for the variance of Adam's rate after t steps; None while that is infinite.

    rho_inf = 2 / (1 - beta2) - 1; rho_t = rho_inf - 2 t beta2^t / (1 - beta2^t); for rho_t > 5

        r_t = sqrt((rho_t - 4) (rho_t - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho_t)).

    Source: Liu et al. 2020 (arXiv 1908.03265), algorithm 2; rho_t > 5 instead of their 4 as torch and
    the authors' code have it.
    """
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
    if rho <= 5:
        return None
    return math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))


class FusedRAdam(torch.optim.Optimizer):
    """`torch.optim.RAdam`, in one fused kernel per step instead of a loop over tensors.

    With m, v the running averages of g and g^2, and bias corrections b1 = 1 - beta1^t, b2 = 1 - beta2^t:

        torch's RAdam, rho_t > 5:   p -= lr r_t (m / b1) sqrt(b2) / (sqrt(v) + eps)
        Adam's kernel:              p -= lr' (m / b1) / (sqrt(v) / sqrt(b2) + eps')

    are equal for lr' = lr r_t and eps' = eps / sqrt(b2). For rho_t <= 5 the kernel runs with lr' = 0, for
    the averages alone, and then p -= lr m / b1. Weight decay is added to the gradient, torch's default.

    A parameter's state is three tensors on its device: `step` (float32, t), `exp_avg` (m), `exp_avg_sq`
    (v). The host needs t too; it counts along in a dictionary that is no part of the state and is read
    from `step` once after the state was loaded, so that no step waits for the device.

    Under a scaler of losses (fp16) the kernel leaves p, m and v alone where a gradient is not finite. Such a step
    counts in t all the same: the host must know t, and would have to wait for the device to learn of it.

    Source: Liu et al. 2020 (arXiv 1908.03265), algorithm 2.
    """

    _step_supports_amp_scaling = True  # torch's scaler then sets `found_inf`, 1 or 0 on the device, and does not wait
    found_inf: Tensor | None = None

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        # "fused" makes torch's load_state_dict put `step` on the parameter's device
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "fused": True}
        self._steps: dict[Tensor, int] = {}
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Called by `load_state_dict`, `copy.deepcopy` and unpickling."""
        super().__setstate__(state)
        self._steps = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step with the gradients at hand; parameters without one are left alone."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            alike = defaultdict(list)  # one kernel call for those of one device, dtype and age: usually all
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p] or self._begun(p)
                    before = self._steps.get(p)
                    self._steps[p] = t = 1 + (int(state["step"]) if before is None else before)
                    alike[p.device, p.dtype, t].append((p, state))
            for (_, _, t), some in alike.items():
                params, states = map(list, zip(*some, strict=True))
                self._update(params, states, t, group)
        return loss

    def _begun(self, p: Tensor) -> dict[str, Tensor]:
        """The state of p before its first step."""
        self._steps[p], state = 0, self.state[p]
        state["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
        state["exp_avg"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        state["exp_avg_sq"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        return state

    def _update(self, params: list[Tensor], states: list[dict[str, Tensor]], t: int, group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        rectified = rectification(t, beta2)
        steps, means, squares = ([s[name] for s in states] for name in ("step", "exp_avg", "exp_avg_sq"))
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            params,
            [p.grad for p in params if p.grad is not None],
            means,
            squares,
            [],
            steps,
            lr=group["lr"] * (rectified or 0.0),
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"] / math.sqrt(1 - beta2**t),
            amsgrad=False,
            maximize=False,
            found_inf=self.found_inf,
        )
        if rectified is None:
            if self.found_inf is not None:
                means = torch._foreach_mul(means, 1 - self.found_inf)
            torch._foreach_add_(params, means, alpha=-group["lr"] / (1 - beta1**t))
