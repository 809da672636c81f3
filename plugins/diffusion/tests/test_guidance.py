"""Claims about guidance: its closed form on two Gaussians with labels, any sampler within, what cannot be guided."""

from __future__ import annotations

import attrs
import pytest
import torch

import genkit
from genkit.denoiser import Denoiser
from genkit.errors import RecipeError
from genkit.kernel.loading import recipe_of
from genkit.kinds import Context, Spec
from genkit.levels import expand
from genkit_diffusion.guidance import guided

MEANS, STD, NULL = torch.tensor([-0.6, 0.6], dtype=torch.float64), 0.3, 2
SPEC = Spec(channels=1, height=1, width=1, classes=2)
CONTEXT = Context(spec=SPEC, total_steps=10)


def log_density(x, sigma, label):
    """ln p(x | label) at a level, and ln p(x) for the null class, of two normals that come equally often."""
    each = -((x[:, None] - MEANS) ** 2) / (2 * (STD**2 + sigma[:, None] ** 2))
    both = torch.logsumexp(each, 1)
    return torch.where(label == NULL, both, each.gather(1, label.clamp(max=1)[:, None])[:, 0])


def denoiser(x, sigma, cond=None, to=None):
    """The exact one, as Tweedie's formula has it; with `to`, where an Euler step of the ODE leads."""
    with torch.enable_grad():
        flat = x.detach().flatten().double().requires_grad_()
        (score,) = torch.autograd.grad(log_density(flat, sigma.double(), cond["label"]).sum(), flat)
    clean = x + expand(sigma**2 * score, x)
    return clean if to is None else clean + expand(to / sigma, x) * (x - clean)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1.5, 3.0])
def test_the_guided_model_is_that_of_the_density_that_is_sharpened_towards_its_class(scale):
    x = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)
    sigma, label = torch.full((9,), 0.7, dtype=torch.float64), torch.arange(9) % 2
    none = torch.full((9,), NULL)
    tilted = (1 - scale) * log_density(x, sigma, none) + scale * log_density(x, sigma, label)
    (score,) = torch.autograd.grad(tilted.sum(), x)
    answer = guided(denoiser, scale, NULL)(x.detach().reshape(9, 1, 1, 1), sigma, {"label": label})
    assert torch.allclose(answer.flatten(), (x + sigma**2 * score).detach(), atol=1e-12)


def test_the_mean_velocity_of_a_model_of_two_times_is_guided():
    x, sigma, to = (
        torch.linspace(-2, 2, 6, dtype=torch.float64).reshape(6, 1, 1, 1),
        torch.full((6,), 2.0),
        torch.ones(6),
    )
    label, none = torch.arange(6) % 2, torch.full((6,), NULL)

    def velocity(label):
        return (denoiser(x, sigma, {"label": label}, to=to) - x) / expand(to - sigma, x)

    answer = guided(denoiser, 2.5, NULL)(x, sigma, {"label": label}, to=to)
    wanted = velocity(none) + 2.5 * (velocity(label) - velocity(none))
    assert torch.allclose((answer - x) / expand(to - sigma, x), wanted, atol=1e-12)


def sampler(inner, scale):
    return genkit.build(genkit.component("sampler", "guided", sampler=inner, scale=scale), CONTEXT)


@pytest.mark.parametrize("inner", ["heun", "euler"])
def test_samples_of_a_class_leave_the_other_and_are_closer_together(inner):
    z, cond = torch.randn(2000, 1, 1, 1, dtype=torch.float64), {"label": torch.zeros(2000, dtype=torch.int64)}
    plain, more = (sampler(inner, scale)(denoiser, lambda j: z, cond, 30) for scale in (1.0, 3.0))
    assert plain.mean().item() == pytest.approx(-0.6, abs=0.05) and plain.std().item() == pytest.approx(
        0.3, rel=0.2
    )  # Euler: 0.27
    assert more.mean() < plain.mean() - 0.2 and more.std() < 0.8 * plain.std()


@pytest.mark.parametrize(("inner", "steps", "calls"), [("heun", 3, 10), ("euler", 3, 6), ("consistency", 2, 4)])
def test_it_needs_what_the_sampler_within_needs_and_twice_its_calls(inner, steps, calls):
    component = genkit.component("sampler", "guided", sampler=inner)
    assert component.needs == component.sampler.needs
    assert sampler(inner, 2.0).nfe(steps) == calls and sampler(inner, 1.0).nfe(steps) == calls // 2


def recipe(labels=True, label_drop=0.1, objective="consistency", inner="consistency", **guidance):
    given = {"use": "guided", "sampler": inner, **guidance}
    told = {"use": objective, "label_drop": label_drop, "sampler": given}
    return recipe_of(dataset={"use": "digits", "labels": labels}, objective=told, train={"steps": 2})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"label_drop": 0.0},
            "guidance needs a null class, and the model is trained with every label; set objective.label_",
        ),
        ({"labels": False}, "guidance needs classes, and the data have none; set dataset.labels = true"),
        ({"inner": "heun"}, "sampler 'guided' needs a model that predicts denoised"),
    ],
)
def test_what_cannot_be_guided_is_one_line(given, says):
    with pytest.raises(RecipeError, match=says) as caught:
        recipe(**given)
    assert "\n" not in str(caught.value)
    assert recipe().objective.sampler.scale == 1.5 and recipe(label_drop=0.0, scale=1.0)


def test_data_without_classes_are_refused_in_python_too():
    component = genkit.component("sampler", "guided")
    with pytest.raises(RecipeError, match="guidance needs classes"):
        genkit.build(component, attrs.evolve(CONTEXT, spec=attrs.evolve(SPEC, classes=0)))


def test_a_model_is_asked_for_its_class_and_for_none_with_the_rest_of_its_conditioning():
    seen = []

    class Network(torch.nn.Module):
        def forward(self, x, c_noise, cond):
            seen.append(cond)
            return x

    made = Denoiser(Network(), genkit.build(genkit.component("parameterization", "edm"), CONTEXT), SPEC)
    cond = {"label": torch.tensor([0, 1]), "size": torch.tensor([5, 6])}
    sampler("euler", 2.0)(made, lambda j: torch.zeros(2, 1, 1, 1), cond, 1)
    assert [told["label"].tolist() for told in seen] == [[2, 2], [0, 1]]
    assert all(told["size"].tolist() == [5, 6] for told in seen)
