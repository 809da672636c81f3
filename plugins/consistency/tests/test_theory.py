"""Section 3.2 of iCT in one dimension, with real objective and teachers: data at xi, f exact where theta = xi.

The levels are 0.1 … 1, evenly spaced; the expectation over pairs is taken over all of them, and the noise cancels.
"""

import contextlib

import pytest
import torch

import genkit
from genkit.kinds import Batch

SPEC = genkit.Spec(channels=1, height=1, width=1, dtype="float32")
LEVELS = genkit.Levels(sigma_min=0.1, sigma_max=1.0, rho=1.0)


class Every:
    """A key that draws each pair of the grid once."""

    def uniform(self, purpose, count, device):
        return (torch.arange(count, dtype=torch.float64) + 0.5) / count

    def normal(self, purpose, like):
        return torch.randn(like.shape, dtype=like.dtype, generator=torch.Generator().manual_seed(0))

    def reseeded(self, device):
        return contextlib.nullcontext()


def program(n, teacher, weighting="uniform", start=1.0):
    choices = {"loss": "l2", "noise": "uniform", "parameterization": "point", "weighting": weighting}
    network, curriculum = {"use": "constant", "start": start}, {"use": "constant", "s1": n - 1}
    objective = genkit.component(
        "objective", "consistency", network=network, curriculum=curriculum, teacher=teacher, **choices
    )
    return genkit.build(objective, genkit.Context(spec=SPEC, levels=LEVELS, total_steps=1)).double()


def ema(mu):
    return {"use": "ema", "mode": "fixed", "mu0": mu} if mu else "stop-grad"


def objective_and_gradient(made, n, xi=0.0):
    """L and dL/dtheta at the program's own student and teacher."""
    made.zero_grad()
    x0 = torch.full((n - 1, 1, 1, 1), xi, dtype=torch.float64)
    value = made(Batch(x0, {}), 0, Every()).values.mean()
    value.backward()
    return value.item(), made.student.network.theta.grad.item()


def at(n, theta_teacher, xi=0.0):
    """L and its gradient over the gap at theta = 1; the student is its own teacher where none is given."""
    made = program(n, "ema" if theta_teacher is not None else "stop-grad")
    if theta_teacher is not None:
        made.teacher.network.theta.data.fill_(theta_teacher)
    value, gradient = objective_and_gradient(made, n, xi)
    return value, gradient * (n - 1) / 0.9


GRADIENTS = {  # n: without an EMA, with a teacher at 0.9, with one at 1.1; and L with the one at 0.9
    11: (1.195665, 2.472, -0.0808, 0.03752),
    101: (0.933246, 14.00, -12.14, 0.006922),
    1001: (0.903330, 131.6, -129.8, 0.005963),
    10001: (0.900333, 1308.0, -1306.0, 0.005891),
}


@pytest.mark.parametrize(("n", "expected"), GRADIENTS.items())
def test_the_gradient_has_a_limit_without_an_ema_and_none_with_one(n, expected):
    alone, below, above, value = expected
    assert at(n, None)[1] == pytest.approx(alone, rel=1e-6 if n < 1000 else 1e-4)
    assert at(n, 0.9) == pytest.approx((value, below), rel=5e-4)
    assert at(n, 1.1)[1] == pytest.approx(above, rel=1e-3)


def test_the_limit_is_the_closed_form_and_points_at_the_data():
    """(theta - xi) (1 - sigma_min / sigma_max) / sigma_max, approached as 1 / N."""
    for xi in (0.0, 0.25, 1.5):
        limit = (1 - xi) * (1 - 0.1 / 1.0) / 1.0
        errors = [abs(at(n, None, xi)[1] - limit) for n in (101, 1001)]
        assert errors[1] < 0.004 * abs(limit) and errors[0] / errors[1] == pytest.approx(10, rel=0.02)


def test_with_an_ema_the_objective_forgets_the_data():
    """L tends to E[(1 - sigma_min / sigma)^2] (theta - theta_teacher)^2, whatever xi is."""
    expected = (1 + 0.1 - 0.2 * torch.tensor(10.0).log().item() / 0.9) * 0.01  # mean of (1 - 0.1 / s)^2 on [0.1, 1]
    assert expected == pytest.approx(0.0058831, rel=1e-5)
    near, far = (at(10001, 0.9, xi)[0] for xi in (0.0, 0.5))
    assert near == pytest.approx(expected, rel=2e-3)
    assert far == pytest.approx(near, rel=2e-3)
    assert abs(at(11, 0.9, 0.5)[0] / at(11, 0.9, 0.0)[0] - 1) > 0.5  # at few levels it has not


REMAINING = {  # theta after 20,000 steps of gradient descent at 2e-4 from 1 towards 0, with lambda = 1 / gap, by mu
    11: {0.0: 0.008, 0.9: 0.009, 0.99: 0.022, 0.999: 0.264},
    101: {0.0: 0.024, 0.9: 0.049, 0.99: 0.353, 0.999: 0.866},
    1001: {0.0: 0.027, 0.9: 0.340, 0.99: 0.874, 0.999: 0.986},
}


def slopes(n, mu):
    """The gradient is a theta + b teacher + c; from the program itself, at three places."""

    def gradient(theta, teacher):
        made.student.network.theta.data.fill_(theta)
        if mu:
            made.teacher.network.theta.data.fill_(teacher)
        return objective_and_gradient(made, n)[1]

    made = program(n, ema(mu), "inverse-step")
    c = gradient(0.0, 0.0)
    return gradient(1.0, 0.0) - c, gradient(0.0, 1.0) - c, c


@pytest.mark.parametrize("n", REMAINING)
@pytest.mark.parametrize("mu", [0.0, 0.9, 0.99, 0.999])
def test_training_with_an_ema_does_not_move_as_n_grows(n, mu):
    a, b, c = slopes(n, mu)
    theta = teacher = 1.0
    for _ in range(20_000):
        theta -= 2e-4 * (a * theta + b * teacher + c)
        teacher = mu * teacher + (1 - mu) * theta
    assert theta == pytest.approx(REMAINING[n][mu], abs=6e-4)


@pytest.mark.parametrize("mu", [0.0, 0.99])
def test_steps_of_the_program_itself_are_those_of_its_slopes(mu):
    a, b, c = slopes(101, mu)
    made, theta, teacher = program(101, ema(mu), "inverse-step"), 1.0, 1.0
    descent = torch.optim.SGD(made.student.parameters(), lr=2e-4)
    for k in range(200):
        objective_and_gradient(made, 101)
        descent.step()
        made.after_step(k)
        theta -= 2e-4 * (a * theta + b * teacher + c)
        teacher = mu * teacher + (1 - mu) * theta
    assert made.student.network.theta.item() == pytest.approx(theta, rel=1e-9)
    assert made.teacher.network.theta.item() == pytest.approx(teacher, rel=1e-9)
