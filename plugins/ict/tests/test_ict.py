"""iCT's choices against the paper's formulas and numbers; each trap of its re-implementations is caught."""

import contextlib
import math

import pytest
import torch

import genkit
from genkit.errors import RecipeError
from genkit.kinds import Batch
from genkit.levels import Levels
from genkit.testing import laws

CIFAR = genkit.Context(spec=genkit.Spec(channels=3, height=32, width=32))
IMAGENET = genkit.Context(spec=genkit.Spec(channels=3, height=64, width=64))


def thing(kind, name, context=CIFAR, **settings):
    return genkit.build(genkit.component(kind, name, **settings), context)


def test_the_curriculum_doubles_eight_times():
    points = genkit.component("curriculum", "exponential")
    starts = [points(k, 400_000) for k in range(0, 400_000, 50_000)]
    assert starts == [11, 21, 41, 81, 161, 321, 641, 1281]
    assert [points(k, 400_000) for k in (49_999, 50_000, 349_999, 399_999)] == [11, 21, 641, 1281]


def test_the_curriculum_of_a_ratio_that_is_no_power_of_two():
    points = genkit.component("curriculum", "exponential", s1=150)
    stage = 81_518
    starts = [points(k, 400_000) for k in (0, stage - 1, stage, 2 * stage, 3 * stage, 4 * stage)]
    assert starts == [11, 11, 21, 41, 81, 151]


def test_a_run_shorter_than_the_stages_takes_a_stage_a_step():
    points = genkit.component("curriculum", "exponential")
    assert [points(k, 7) for k in range(7)] == [11, 21, 41, 81, 161, 321, 641]


def test_stages_are_counted_by_the_whole_part_of_the_ratio():
    points = genkit.component("curriculum", "exponential", s0=10, s1=159)  # log2(15), not log2(15.9)
    assert [points(k, 400_000) for k in (81_517, 81_518, 4 * 81_518 - 1, 4 * 81_518)] == [11, 21, 81, 160]


@pytest.mark.parametrize("total", [1, 3, 7])
def test_runs_shorter_than_the_number_of_stages_start(total):
    points = genkit.component("curriculum", "exponential")
    assert points(0, total) == 11


def test_a_curriculum_that_falls_is_refused():
    with pytest.raises(RecipeError, match="s1 must be at least s0"):
        genkit.component("curriculum", "exponential", s0=10, s1=5)


@pytest.mark.parametrize(("context", "c"), [(CIFAR, 0.0299), (IMAGENET, 0.0599)])
def test_the_constant_of_pseudo_huber_grows_with_the_root_of_the_dimensions(context, c):
    d = thing("loss", "pseudo-huber", context)
    assert d.keywords["c"] == pytest.approx(c, abs=5e-5)


def test_pseudo_huber_takes_one_norm_per_image_and_not_one_per_pixel():
    x, y = torch.randn(5, 3, 32, 32, dtype=torch.float64), torch.randn(5, 3, 32, 32, dtype=torch.float64)
    d = thing("loss", "pseudo-huber", c=0.03)(x, y)
    square = (x - y).flatten(1).square().sum(1)
    assert torch.allclose(d, (square + 0.03**2).sqrt() - 0.03, rtol=1e-12)
    elementwise = (((x - y) ** 2 + 0.03**2).sqrt() - 0.03).flatten(1).sum(1)
    assert (d / elementwise).max() < 0.1


def test_without_its_constant_pseudo_huber_is_the_norm_with_unit_gradients():
    x = torch.randn(5, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    laws.check(genkit.component("loss", "pseudo-huber", c=0))
    d = thing("loss", "pseudo-huber", c=0)(x, torch.zeros_like(x))
    d.sum().backward()
    assert torch.allclose(d, x.flatten(1).square().sum(1).sqrt(), rtol=1e-12)
    assert torch.allclose(x.grad, x.detach() / d.detach().reshape(-1, 1, 1, 1), rtol=1e-12)


def test_pseudo_huber_keeps_its_digits_where_the_difference_of_roots_loses_them():
    x, y = torch.zeros(1, 3072), torch.full((1, 3072), 1e-6)
    exact = math.sqrt(3072e-12 + 0.03**2) - 0.03
    assert thing("loss", "pseudo-huber", c=0.03)(x, y).item() == pytest.approx(exact, rel=1e-5)


def test_the_weight_is_the_inverse_of_the_exact_gap():
    sigma = Levels().sigmas(1281)
    weigh = thing("weighting", "inverse-step")
    exact = 1 / sigma.diff()
    assert torch.allclose(weigh(None, None, sigma.diff().float()).double(), exact, rtol=1e-6)
    assert exact.max().item() == pytest.approx(25_585, rel=1e-3)
    assert exact.min().item() == pytest.approx(2.94, rel=2e-3)


def test_the_lognormal_mass_on_the_range_is_the_derived_one():
    law = thing("noise", "lognormal")
    ends = law.cdf(torch.tensor([0.002, 80.0], dtype=torch.float64))
    assert (ends[1] - ends[0]).item() == pytest.approx(0.99166, abs=5e-6)


def test_lognormal_draws_have_the_papers_moments():
    u = torch.rand(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    log = thing("noise", "lognormal").icdf(u).log()
    assert (log.mean().item(), log.std().item()) == pytest.approx((-1.1, 2.0), abs=0.02)


def test_the_teacher_is_the_student_and_is_saved_once():
    grey = genkit.Context(spec=genkit.Spec(channels=1, height=8, width=8), total_steps=100)
    program = genkit.build(genkit.component("objective", "consistency"), grey)
    assert program.teacher is program.student
    assert {name.split(".")[0] for name in program.state_dict()} == {"student"}


# ---- a whole step beside the paper's formulas ------------------------------------------------------


class Tiny(torch.nn.Module):
    """F(x, c) = a tanh(x) + b c + g x^2."""

    def __init__(self, weights):
        super().__init__()
        self.weights = torch.nn.Parameter(weights.clone())

    def forward(self, x, c_noise, cond):
        a, b, g = self.weights
        return a * x.tanh() + b * c_noise.reshape(-1, 1, 1, 1) + g * x * x


class Given:
    """A key whose draws are given."""

    def __init__(self, u, eps):
        self.u, self.eps = u, eps

    def uniform(self, purpose, count, device):
        return self.u

    def normal(self, purpose, like):
        return self.eps

    def reseeded(self, device):
        return contextlib.nullcontext()


def published(weights, x0, eps, u, n):
    """lambda(sigma_i) d(f(x + sigma_{i+1} z), f(x + sigma_i z)) from table 1 and eq. 10, in float64."""
    a, b = 0.002 ** (1 / 7), 80 ** (1 / 7)
    sigmas = torch.tensor([(a + i / (n - 1) * (b - a)) ** 7 for i in range(n)], dtype=torch.float64)
    below = [math.erf((math.log(s) + 1.1) / (math.sqrt(2) * 2.0)) for s in sigmas.tolist()]
    i = torch.tensor([sum((e - below[0]) / (below[-1] - below[0]) <= v for e in below[1:]) for v in u.tolist()])

    def f(sigma, w):
        s = sigma.reshape(-1, 1, 1, 1)
        x, root = x0 + s * eps, (s**2 + 0.25).sqrt()
        out = w[0] * (x / root).tanh() + w[1] * s.log() / 4 + w[2] * (x / root) ** 2
        return 0.25 / ((s - 0.002) ** 2 + 0.25) * x + 0.5 * (s - 0.002) / root * out

    c = 0.00054 * math.sqrt(x0[0].numel())
    square = (f(sigmas[i + 1], weights) - f(sigmas[i], weights.detach())).square().sum((1, 2, 3))
    return ((square + c**2).sqrt() - c) / (sigmas[i + 1] - sigmas[i])


@pytest.mark.parametrize(("k", "n"), [(0, 11), (50, 161)])
def test_a_step_of_ict_has_the_losses_and_the_gradient_of_the_papers_formulas(k, n):
    context = genkit.Context(spec=genkit.Spec(channels=3, height=2, width=2), total_steps=100)
    program = genkit.build(genkit.component("objective", "consistency", network="mlp"), context)
    weights = torch.tensor([0.7, -0.3, 0.2], dtype=torch.float64, requires_grad=True)
    program.student.network = program.student._call = made = Tiny(weights.detach())
    x0 = torch.arange(60, dtype=torch.float64).sin().reshape(5, 3, 2, 2) * 0.5
    eps = (3 * torch.arange(60, dtype=torch.float64) + 1).cos().reshape(5, 3, 2, 2)
    u = torch.tensor([0.01, 0.3, 0.55, 0.8, 0.995], dtype=torch.float64)
    exact = published(weights, x0, eps, u, n)
    exact.mean().backward()
    found = program(Batch(x0, {}), k, Given(u, eps)).values
    found.mean().backward()
    assert program.points(k) == n
    assert found.tolist() == pytest.approx(exact.tolist(), rel=1e-5)
    gradient = weights.grad.tolist()  # levels are float32, and a small part is a difference of larger ones
    assert made.weights.grad.tolist() == pytest.approx(gradient, rel=1e-5, abs=1e-5 * max(map(abs, gradient)))
