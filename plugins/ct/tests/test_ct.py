"""CT's choices against the published definitions."""

import copy
import math

import pytest
import torch

import genkit
from genkit.errors import RecipeError

CONTEXT = genkit.Context(spec=genkit.Spec(channels=1, height=8, width=8), total_steps=100)


def test_the_square_root_curriculum_is_the_published_one():
    points, total = genkit.component("curriculum", "square-root"), 800_000
    for k in (0, 1, 1000, 100_000, 799_999):
        expected = math.ceil(math.sqrt(k / total * (151**2 - 4) + 4) - 1) + 1
        assert points(k, total) == expected
    assert (points(0, total), points(799_999, total)) == (2, 151)


def test_the_constant_curriculum_stays():
    points = genkit.component("curriculum", "constant", s1=17)
    assert {points(k, 100) for k in range(100)} == {18}


@pytest.mark.parametrize(("name", "power"), [("l1", 1), ("l2", 2)])
def test_metrics_are_means_over_dimensions(name, power):
    x, y = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    d = genkit.build(genkit.component("loss", name), CONTEXT)(x, y)
    assert torch.allclose(d, (x - y).abs().pow(power).reshape(3, 32).mean(1))


def test_the_teachers_decay_counts_intervals_and_not_grid_points():
    teacher = genkit.component("teacher", "ema", s0=2, mu0=0.9)
    assert teacher.mu(2) == pytest.approx(0.9)  # N = 3, as in the published code
    assert teacher.mu(150) == pytest.approx(math.exp(2 * math.log(0.9) / 150))
    assert teacher.mu(0) == teacher.mu(1)


@pytest.mark.parametrize("mu0", [1.0, 0.0, 1.5])
def test_a_decay_that_never_or_always_forgets_is_refused(mu0):
    with pytest.raises(RecipeError, match="mu0"):
        genkit.component("teacher", "ema", mu0=mu0)


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
