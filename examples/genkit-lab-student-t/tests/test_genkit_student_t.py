"""Student's t keeps the laws of losses, has its limits, and trains."""

import pytest
import torch

import genkit
from genkit.testing import laws


@pytest.mark.genkit("genkit-lab-student-t")
def test_it_keeps_the_law(genkit_law):
    genkit_law()


def test_with_many_degrees_of_freedom_it_is_a_parabola():
    component = genkit.component("loss", "student-t", nu=1e6, s=2.0)
    laws.check(component)
    x, y = torch.linspace(-1, 1, 24).reshape(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    loss = genkit.build(component, laws.context())
    assert torch.allclose(loss(x, y), ((x - y).square() / 8).flatten(1).mean(1), rtol=1e-3)


def test_its_recipe_trains(tiny_run):
    assert tiny_run("student_t_ring").figures
