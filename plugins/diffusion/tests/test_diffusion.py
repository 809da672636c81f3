"""The objective, its scalings and the ODE path against the published definitions, and what does not fit."""

import copy
import json
import math
from contextlib import contextmanager

import attrs
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import genkit
from genkit.denoiser import Denoiser
from genkit.errors import GenkitError, RecipeError
from genkit.keys import Key
from genkit.kinds import Batch, Source
from genkit.levels import expand

SPEC = genkit.Spec(channels=2, height=1, width=1)
CONTEXT = genkit.Context(spec=SPEC, total_steps=100)
X0 = torch.tensor([0.5, -0.3, 0.9, 0.1, -0.8, 0.4], dtype=torch.float64).reshape(3, 2, 1, 1)
EPS = torch.tensor([0.3, -0.7, 1.1, 0.2, -0.4, 0.6], dtype=torch.float64).reshape(3, 2, 1, 1)


class Tiny(nn.Module):
    """F = a tanh(b x + c_noise), as the published code was run with."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (a, b))

    def forward(self, x, c_noise, cond):
        return self.a * torch.tanh(self.b * x + expand(c_noise, x))


class Given:
    """A key whose draws are given."""

    def __init__(self, u):
        self.u = torch.tensor(u, dtype=torch.float64)

    def uniform(self, purpose, count, device="cpu"):
        return self.u

    def normal(self, purpose, like):
        return EPS

    @contextmanager
    def reseeded(self, device):
        yield


def scalings():
    return genkit.build(genkit.component("parameterization", "edm"), CONTEXT)


def objective(**slots):
    return genkit.component("objective", "diffusion", **slots)


def test_scalings_are_the_published_ones():
    sigma = torch.tensor([0.002, 0.5, 80.0], dtype=torch.float64)
    s = scalings()(sigma)
    assert torch.allclose(s.c_skip, 0.25 / (sigma**2 + 0.25), rtol=1e-12)
    assert torch.allclose(s.c_out, 0.5 * sigma / (sigma**2 + 0.25).sqrt(), rtol=1e-12)
    assert torch.allclose(s.c_in, 1 / (sigma**2 + 0.25).sqrt(), rtol=1e-12)
    assert torch.allclose(s.c_noise, sigma.log() / 4, rtol=1e-12)


def test_the_weighting_undoes_the_scaling_of_the_output():
    sigma = torch.tensor([0.002, 0.5, 80.0], dtype=torch.float64)
    weights = genkit.build(genkit.component("weighting", "edm"), CONTEXT)(sigma)
    assert torch.allclose(weights, (sigma**2 + 0.25) / (sigma * 0.5) ** 2, rtol=1e-12)
    assert torch.allclose(weights * scalings()(sigma).c_out ** 2, torch.ones(3, dtype=torch.float64), rtol=1e-12)


def test_the_loss_is_the_published_one():
    program = genkit.build(objective(network="mlp"), CONTEXT)
    program.student.network = Tiny(1.1, 0.6)
    program.student._call = program.student.network
    u = [0.5 * (1 + math.erf(z / math.sqrt(2))) for z in (0.2, -1.0, 1.5)]  # ln sigma = -1.2 + 1.2 z
    values = program(Batch(X0, {}), 0, Given(u)).values
    published = torch.tensor([0.827542846597472, 1.8833382198341277, 1.1692860196031163], dtype=torch.float64)
    assert torch.allclose(values, published, rtol=1e-5)


def test_levels_are_lognormal_as_edms_unless_another_law_is_named():
    law = objective().noise
    assert (law.p_mean, law.p_std) == (-1.2, 1.2)
    assert objective(noise={"p_std": 1.0}).noise.p_mean == -1.2  # the rest of the slot's own settings stays
    assert objective(noise="lognormal").noise.p_mean == -1.1  # a component that is named has its own
    assert objective(noise="uniform") != objective()


def test_labels_are_dropped_at_the_chance_that_is_asked():
    context = attrs.evolve(CONTEXT, spec=attrs.evolve(SPEC, classes=4))
    seen = []
    for chance in (0.0, 0.25):
        program = genkit.build(objective(network="mlp", label_drop=chance), context)
        program.student.network.register_forward_pre_hook(
            lambda _, given: seen.append((given[2]["label"] == 4).double().mean().item())
        )
        program(Batch(torch.randn(4000, *SPEC.shape), {"label": torch.zeros(4000, dtype=torch.int64)}), 0, Key(0))
    assert seen[0] == 0 and seen[1] == pytest.approx(0.25, abs=0.03)


# ---- distillation --------------------------------------------------------------------------------


def distilled(trained, spec=SPEC, network="mlp", **path):
    """The program of consistency distillation, with `trained` for what `path.model` names."""
    slots = {"network": network, "noise": "uniform", "loss": "l2", "weighting": "uniform", "teacher": "ema"}
    path = {"use": "ode", "model": {"from": "there"}, **path}
    component = genkit.component(
        "objective", "consistency", curriculum={"use": "constant", "s1": 17}, path=path, **slots
    )
    return genkit.build(component, attrs.evolve(CONTEXT, spec=spec, load=lambda source: trained))


def diffusion(spec=SPEC, network=None, **settings):
    context = attrs.evolve(CONTEXT, spec=spec)
    program = genkit.build(objective(network="mlp", **settings), context)
    program.student.objective = objective(network="mlp", **settings)
    if network is not None:
        program.student = Denoiser(network, scalings(), spec)
    return program.student.eval().requires_grad_(False)


def test_a_whole_step_of_distillation_is_the_published_one():
    program = distilled(diffusion(network=Tiny(1.1, 0.6)))
    program.student.network = program.student._call = student = Tiny(0.9, 0.8)
    program.owned.network = program.owned._call = Tiny(1.0, 0.7)
    u = [(17 - 1 - index + 0.5) / 17 for index in (1, 9, 16)]  # published indices count from the greatest level
    values = program(Batch(X0, {}), 0, Given(u)).values
    published = [0.00042481788151285676, 0.012398386062261457, 2.0540268026811303e-06]
    assert torch.allclose(values, torch.tensor(published, dtype=torch.float64), rtol=1e-5)
    values.mean().backward()
    assert student.a.grad.item() == pytest.approx(-0.025630452757600373, rel=1e-5)
    assert student.b.grad.item() == pytest.approx(-0.006211236255528447, rel=1e-5)


def test_x_r_is_the_published_one_and_the_second_slope_is_taken_at_r():
    levels = CONTEXT.levels.sigmas(18).flip(0)[torch.tensor([[1, 9, 16], [2, 10, 17]])]
    t, r = levels
    x_t = X0 + expand(t, X0) * EPS
    asked = []

    class Told(Tiny):
        def forward(self, x, c_noise, cond):
            asked.append((4 * c_noise).exp())
            return super().forward(x, c_noise, cond)

    path = distilled(diffusion(network=Told(1.1, 0.6))).path
    published = [12.720864222079733, -28.68571269055138, 2.015776006661598]
    published += [0.34555452114685714, -0.8088923286528527, 0.40016375208638544]
    found = path(x_t, t, r, X0, EPS, {})
    assert torch.allclose(found.flatten(), torch.tensor(published, dtype=torch.float64), rtol=1e-9)
    assert torch.allclose(torch.stack(asked), levels, rtol=1e-12)
    one = distilled(diffusion(network=Told(1.1, 0.6)), solver="euler").path(x_t, t, r, X0, EPS, {})
    assert len(asked) == 3 and not torch.allclose(one, found, rtol=1e-3)


def test_the_diffusion_model_is_frozen_and_no_part_of_what_is_saved():
    model = diffusion()
    program = distilled(model)
    assert {name.split(".")[0] for name in program.state_dict()} == {"student", "owned"}
    of_model = {p.data_ptr() for p in model.parameters()}
    assert not of_model & {p.data_ptr() for p in program.parameters()}
    before = copy.deepcopy(model.state_dict())
    program(Batch(X0.float(), {}), 0, Key(0)).values.mean().backward()
    assert all(p.grad is None for p in model.parameters()) and not model.training
    program.train()
    assert not model.training
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())


def test_guidance_follows_the_class_from_the_null_class():
    spec = attrs.evolve(SPEC, classes=3)

    class Labelled(nn.Module):
        def forward(self, x, c_noise, cond):
            return expand(cond["label"].to(x.dtype), x) * torch.ones_like(x)

    model = diffusion(spec, Labelled())
    t, r = torch.full((3,), 2.0, dtype=torch.float64), torch.full((3,), 1.0, dtype=torch.float64)
    label = {"label": torch.tensor([0, 1, 2])}
    twice = distilled(model, spec, guidance_scale=2.0, solver="euler").path(X0, t, r, X0, EPS, label)
    plain, null = (
        distilled(model, spec, solver="euler").path(X0, t, r, X0, EPS, {"label": torch.tensor(one)})
        for one in ([0, 1, 2], [3, 3, 3])
    )
    assert torch.allclose(twice, 2 * plain - null, rtol=1e-12) and not torch.allclose(twice, plain)


WIDE = genkit.Spec(channels=2, height=2, width=1)
GREY = genkit.Spec(channels=1, height=1, width=1)
CLASSES = attrs.evolve(SPEC, classes=3)


def consistency():
    component = genkit.component("objective", "consistency", network="mlp")
    student = genkit.build(component, CONTEXT).student
    student.objective = component
    return student


@pytest.mark.parametrize(
    ("model", "path", "told"),
    [
        (lambda: diffusion(WIDE), {}, "makes samples of 2x2x1, the data are 2x1x1"),
        (lambda: diffusion(GREY), {}, "makes samples of 1x1x1, the data are 2x1x1"),
        (lambda: diffusion(CLASSES), {}, "knows 3 classes, the data have 0"),
        (consistency, {}, "there predicts consistency, and an ODE is followed by a model that predicts denoised"),
        (diffusion, {"guidance_scale": 2.0}, "guidance needs a null class, and there was trained without classes"),
        (diffusion, {"model": {}}, "names no diffusion model"),
    ],
    ids=["resolution", "channels", "classes", "kind", "guidance", "unnamed"],
)
def test_a_model_that_does_not_fit_is_one_line(model, path, told):
    with pytest.raises(RecipeError, match=told) as error:
        distilled(model(), **path)
    assert "\n" not in str(error.value) and str(error.value).startswith("path.")


def test_guidance_needs_a_model_that_was_trained_with_the_null_class():
    with pytest.raises(RecipeError, match="was trained with every label"):
        distilled(diffusion(CLASSES), CLASSES, guidance_scale=2.0)
    distilled(diffusion(CLASSES, label_drop=0.1), CLASSES, guidance_scale=2.0)
    distilled(diffusion(), CLASSES)  # a model without classes may teach one with classes


@pytest.mark.parametrize("path", [{"solver": "rk4"}, {"guidance_scale": -1.0}])
def test_settings_of_the_path_are_checked(path):
    with pytest.raises(RecipeError, match=r"solver|guidance_scale"):
        distilled(diffusion(), **path)


def random_weights(spec=SPEC):
    saved = diffusion(spec)
    with torch.no_grad():
        for p in saved.parameters():
            p.normal_()
    return saved


def test_a_weights_file_is_a_diffusion_model_with_the_students_network(tmp_path):
    saved, file = random_weights(), tmp_path / "edm.safetensors"
    save_file(saved.network.state_dict(), file)
    path = distilled(None, model={"from": str(file)}).path
    x, sigma = X0.float(), torch.tensor([0.1, 1.0, 10.0])
    assert torch.equal(path.model(x, sigma), saved(x, sigma))
    assert not any(p.requires_grad for p in path.model.parameters())


def test_a_weights_file_that_describes_its_network_is_taken_at_its_word(tmp_path):
    saved, file = random_weights(WIDE), tmp_path / "edm.safetensors"
    told = {"network": json.dumps({"use": "mlp"}), "spec": json.dumps(attrs.asdict(WIDE))}
    save_file(saved.network.state_dict(), file, told)
    with pytest.raises(RecipeError, match="makes samples of 2x2x1, the data are 2x1x1"):
        distilled(None, model={"from": str(file)})
    model = distilled(None, WIDE, model={"from": str(file)}, network={"use": "mlp", "width": 32}).path.model
    x, sigma = torch.ones(1, 2, 2, 1), torch.tensor([1.0])
    assert torch.equal(model(x, sigma), saved(x, sigma))


@pytest.mark.parametrize(
    ("how", "told"), [("missing", "no such weights file"), ("torn", "no readable"), ("foreign", "does not fit")]
)
def test_a_weights_file_that_cannot_be_used_is_one_line(tmp_path, how, told):
    file = tmp_path / "edm.safetensors"
    if how == "torn":
        file.write_bytes(b"\x10\x00")
    if how == "foreign":
        save_file({"weight": torch.zeros(2)}, file)
    with pytest.raises(GenkitError, match=told) as error:
        distilled(None, model={"from": str(file)})
    assert "\n" not in str(error.value) and error.value.exit_code == 4


@pytest.mark.parametrize(("objective", "sampler"), [("diffusion", "consistency"), ("consistency", "heun")])
def test_a_sampler_of_the_other_kind_does_not_fit(objective, sampler):
    made = {"dataset": "ring", "train": {"steps": 1}}
    with pytest.raises(RecipeError, match="needs a model that predicts"):
        genkit.recipe_of(**made, objective={"use": objective, "network": "mlp", "sampler": sampler})


def test_the_source_is_read_from_a_recipe():
    recipe = genkit.recipe_of(
        dataset="ring",
        train={"steps": 1},
        objective={"use": "consistency", "network": "mlp", "path": {"use": "ode", "model": {"from": "recipe:edm"}}},
    )
    assert recipe.objective.path.model == Source(origin="recipe:edm")
