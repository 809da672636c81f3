"""CT's choices against the published definitions."""

import contextlib
import copy
import math

import pytest
import torch

import genkit
from genkit.errors import RecipeError
from genkit.kinds import Batch

CONTEXT = genkit.Context(spec=genkit.Spec(channels=1, height=8, width=8), total_steps=100)


def test_the_square_root_curriculum_is_the_published_one():
    points, total = genkit.component("curriculum", "square-root"), 800_000
    for k in (0, 1, 1000, 100_000, 799_999):
        expected = math.ceil(math.sqrt(k / total * (151**2 - 4) + 4) - 1) + 1
        assert points(k, total) == expected
    assert (points(0, total), points(799_999, total)) == (2, 151)


@pytest.mark.parametrize(
    ("name", "points"),
    [("linear", [11, 328, 963, 1280]), ("square", [11, 90, 725, 1280]), ("cosine", [11, 196, 1095, 1280])],
)
def test_rising_curricula_start_at_s0_intervals_and_end_below_s1(name, points):
    n = genkit.component("curriculum", name)
    assert [n(k, 400_000) for k in (0, 100_000, 300_000, 399_999)] == points
    assert n(400_000, 400_000) == 1281


@pytest.mark.parametrize("name", ["square-root", "linear", "square", "cosine"])
def test_a_curriculum_that_falls_is_refused_in_one_line(name):
    with pytest.raises(RecipeError, match="s1 must be at least s0: 9 < 10") as error:
        genkit.component("curriculum", name, s0=10, s1=9)
    assert "\n" not in str(error.value)


def test_the_constant_curriculum_stays():
    points = genkit.component("curriculum", "constant", s1=17)
    assert {points(k, 100) for k in range(100)} == {18}


@pytest.mark.parametrize(("name", "power"), [("l1", 1), ("l2", 2)])
def test_metrics_are_means_over_dimensions(name, power):
    x, y = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    d = genkit.build(genkit.component("loss", name), CONTEXT)(x, y)
    assert torch.allclose(d, (x - y).abs().pow(power).reshape(3, 32).mean(1))


def test_the_maximum_metric_is_the_largest_difference():
    x, y = torch.randn(3, 2, 4, 4, dtype=torch.float64), torch.randn(3, 2, 4, 4, dtype=torch.float64)
    d = genkit.build(genkit.component("loss", "linf"), CONTEXT)(x, y)
    assert torch.equal(d, (x - y).abs().reshape(3, 32).max(1).values)


# What the published PyTorch code gives: weights at these levels for sigma_data 0.5, and (k, mu, N) of its runs.
LEVELS = [0.002, 0.0125, 0.5, 0.9, 1.3, 80.0]
WEIGHTS = {
    "uniform": [1, 1, 1, 1, 1, 1],
    "snr": [250000.0, 6400.0, 4.0, 1.2345679, 0.591715976, 0.00015625],
    "snr+1": [250001.0, 6401.0, 5.0, 2.2345679, 1.59171598, 1.00015625],
    "truncated-snr": [250000.0, 6400.0, 4.0, 1.2345679, 1.0, 1.0],
    "karras": [250004.0, 6404.0, 8.0, 5.2345679, 4.59171598, 4.00015625],
}
CIFAR = [(0, 0.81, 2), (1, 0.9, 3), (800, 0.9587315155141827, 6), (400_000, 0.9980140403749149, 107)]
IMAGENET = [(0, 0.9025, 2), (1, 0.95, 3), (800, 0.9830475724915585, 7), (799_999, 0.9994871985837377, 201)]


@pytest.mark.parametrize(("name", "expected"), WEIGHTS.items())
def test_weights_are_those_of_the_published_code_at_the_students_level(name, expected):
    t = torch.tensor(LEVELS, dtype=torch.float64)
    found = genkit.build(genkit.component("weighting", name), CONTEXT)(t, t / 2, t / 2)
    assert found.tolist() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("s1", "mu0", "published"), [(150, 0.9, CIFAR), (200, 0.95, IMAGENET)])
def test_the_adaptive_schedule_is_that_of_the_published_code(s1, mu0, published):
    points = genkit.component("curriculum", "square-root", s0=2, s1=s1)
    teacher = genkit.component("teacher", "ema", s0=2, mu0=mu0)
    for k, mu, n in published:
        assert points(k, 800_000) == n
        assert teacher.mu(n - 1) == pytest.approx(mu, rel=1e-12)


def test_a_fixed_decay_stays():
    teacher = genkit.component("teacher", "ema", mu0=0.95, mode="fixed")
    assert {teacher.mu(n) for n in (1, 2, 150)} == {0.95}
    with pytest.raises(RecipeError, match="mode"):
        genkit.component("teacher", "ema", mode="sometimes")


def test_the_teachers_decay_counts_intervals_and_not_grid_points():
    teacher = genkit.component("teacher", "ema", s0=2, mu0=0.9)
    assert teacher.mu(2) == pytest.approx(0.9)  # N = 3, as in the published code
    assert teacher.mu(150) == pytest.approx(math.exp(2 * math.log(0.9) / 150))
    assert teacher.mu(0) == teacher.mu(1)


@pytest.mark.parametrize("mu0", [1.0, 0.0, 1.5])
def test_a_decay_that_never_or_always_forgets_is_refused(mu0):
    with pytest.raises(RecipeError, match="mu0") as error:
        genkit.component("teacher", "ema", mu0=mu0)
    assert "\n" not in str(error.value)


def test_the_teacher_follows_the_student_by_mu():
    objective = genkit.component("objective", "consistency", teacher="ema", curriculum="constant")
    program = genkit.build(objective, CONTEXT)
    assert program.teacher is not program.student
    assert not any(p.requires_grad for p in program.teacher.parameters())
    old = copy.deepcopy(program.teacher)
    with torch.no_grad():
        for p in program.student.parameters():
            p.add_(1)
    program.after_step(0)
    mu = genkit.component("teacher", "ema").mu(150)
    for a, b, c in zip(program.teacher.parameters(), old.parameters(), program.student.parameters(), strict=True):
        assert torch.allclose(a, mu * b + (1 - mu) * c, atol=1e-6)


def test_an_averaged_teacher_is_saved_and_takes_no_gradient():
    program = genkit.build(genkit.component("objective", "consistency", teacher="ema"), CONTEXT)
    assert {name.split(".")[0] for name in program.state_dict()} == {"student", "owned"}
    assert all(name.startswith("student") for name, _ in program.groups()["student"])


def test_uniform_noise_is_uniform_on_the_rho_axis():
    law = genkit.build(genkit.component("noise", "uniform"), CONTEXT)
    sigma = law.icdf(torch.linspace(0, 1, 101, dtype=torch.float64))
    assert torch.allclose((sigma ** (1 / 7)).diff(), (sigma ** (1 / 7)).diff()[:1].expand(100), rtol=1e-6)


# ---- whole steps beside the published code ---------------------------------------------------------


class Tiny(torch.nn.Module):
    """F(x, c) = a tanh(x) + b c + g x^2."""

    def __init__(self, *weights):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor(weights, dtype=torch.float64))

    def forward(self, x, c_noise, cond):
        a, b, g = self.weights
        return a * x.tanh() + b * c_noise.reshape(-1, 1, 1, 1) + g * x * x


class Given:
    """A key whose draws are given: pairs of the grid from below, and noise."""

    def __init__(self, pairs, eps):
        self.pairs, self.eps = pairs, eps

    def uniform(self, purpose, count, device):
        return (self.pairs.double() + 0.5) / 17

    def normal(self, purpose, like):
        return self.eps

    def reseeded(self, device):
        return contextlib.nullcontext()


# Published losses and mean gradients of a, b, g: 18 levels, pairs 0, 3, 9, 13, 16 from above, target (0.5, 0.1, -0.4).
STEPS = {
    ("l1", "uniform"): (
        [0.07955944477, 0.1132674205, 0.2519821411, 0.06651074171, 0.001761115814],
        [0.03905785461, 0.03745700681, 0.1745862711],
    ),
    ("l1", "karras"): (
        [0.3182502103, 0.4532103663, 1.076045909, 3.683010405, 31.08313605],
        [0.3376008706, -12.10234357, -0.03641745418],
    ),
    ("l2", "uniform"): (
        [0.008289493614, 0.01653950212, 0.08201394818, 0.007126405289, 4.7010624e-06],
        [0.01862902699, 0.01036913732, 0.07271522777],
    ),
    ("l2", "karras"): (
        [0.03315926969, 0.06617855147, 0.3502263018, 0.3946223445, 0.08297226166],
        [0.1396290926, -0.09980511495, 0.431923392],
    ),
}


@pytest.mark.parametrize(("loss", "weighting"), STEPS)
def test_a_step_of_consistency_training_has_the_published_losses_and_gradient(loss, weighting):
    values, gradient = STEPS[loss, weighting]
    choices = {"loss": loss, "weighting": weighting, "curriculum": {"use": "constant", "s1": 17}, "noise": "uniform"}
    program = genkit.build(genkit.component("objective", "consistency", teacher="ema", **choices), CONTEXT)
    program.student.network, program.student._call = (made := Tiny(0.7, -0.3, 0.2)), made.__call__
    program.teacher.network, program.teacher._call = (made := Tiny(0.5, 0.1, -0.4)), made.__call__
    x0 = torch.arange(20, dtype=torch.float64).sin().reshape(5, 1, 2, 2) * 0.5
    eps = (3 * torch.arange(20, dtype=torch.float64) + 1).cos().reshape(5, 1, 2, 2)
    found = program(Batch(x0, {}), 0, Given(16 - torch.tensor([0, 3, 9, 13, 16]), eps)).values
    found.mean().backward()
    made = program.student.network.weights
    assert found.tolist() == pytest.approx(values, rel=1e-5)
    assert made.grad.tolist() == pytest.approx(gradient, rel=1e-5, abs=1e-5 * max(map(abs, gradient)))
