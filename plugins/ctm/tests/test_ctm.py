"""CTM against what is known for Gaussian data, and against its formulas, worked out apart from this code."""

import collections
import copy
import math
import shutil

import attrs
import pytest
import torch

import genkit
from genkit.denoiser import Denoiser
from genkit.errors import RecipeError
from genkit.keys import Key
from genkit.kinds import Batch
from genkit.levels import add_noise, expand
from genkit.testing import laws
from genkit.training import checkpoint
from genkit_ctm.objective import still
from genkit_ctm.parameterization import denoised

SPEC = genkit.Spec(channels=2, height=1, width=1, dtype="float32")
CONTEXT = genkit.Context(spec=SPEC, total_steps=100, times=2)
S = torch.tensor([0.37, 0.9], dtype=torch.float64).reshape(1, 2, 1, 1)  # the data are N(0, S^2), each number for itself
T = torch.tensor([80.0, 7.0, 0.5, 0.003, 0.9], dtype=torch.float64)
TO = torch.tensor([0.002, 0.5, 0.5, 0.002, 0.3], dtype=torch.float64)


def jump(x, t, s):
    """Where the path through (x, t) is at level s: x sqrt((S^2 + s^2) / (S^2 + t^2))."""
    t, s = expand(t, x), expand(s, x)
    return x * ((S**2 + s**2) / (S**2 + t**2)).sqrt()


class Exact(torch.nn.Module):
    """The network with which g, and so G, is exact but for a factor 1 + delta of g."""

    def __init__(self):
        super().__init__()
        self.delta = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, c_noise, cond):
        t, s = (expand(level, x) for level in (4 * c_noise.double()).exp().unbind(1))
        x = x * (t**2 + 0.25).sqrt()
        same = (s / t - 1).abs() < 1e-9
        g = (x * ((S**2 + s**2) / (S**2 + t**2)).sqrt() - s / t * x) / torch.where(same, 1.0, 1 - s / t)
        g = (1 + self.delta) * torch.where(same, S**2 / (S**2 + t**2) * x, g)
        return (g - 0.25 / (t**2 + 0.25) * x) * (t**2 + 0.25).sqrt() / (0.5 * t)


def scalings(name="ctm"):
    return genkit.build(genkit.component("parameterization", name), CONTEXT)


def noisy(count=5):
    return torch.randn(count, 2, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def program(network=None, context=CONTEXT, **slots):
    """A program in float64, with the network that is given."""
    slots = {"network": "mlp", "loss": "l2", **slots}
    made = genkit.build(genkit.component("objective", "ctm", **slots), context).double()
    made.sigmas = context.levels.sigmas(made.settings.points)
    for model in filter(None, (made.student, made.owned) if network else ()):
        model.network = model._call = copy.deepcopy(network)
    if made.owned is not None:
        made.owned.requires_grad_(False)
    return made


def along(made):
    """The program with the exact path, so that nothing is a solver's error."""
    made.path = lambda x_t, t, r, x0, eps, cond: jump(x_t, t, r)
    return made


def pairs(count=32):
    """x0 and eps of the moments of their laws, exactly: each of (+-S, +-1) as often as the others."""
    signs = torch.tensor([[1.0, 1.0], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64).repeat(count // 4, 1)
    return S * signs[:, :1, None, None], signs[:, 1:, None, None].expand(-1, 2, 1, 1).clone()


class Told(Key):
    """A key whose noise is given, and whose levels are alike in each four samples."""

    def normal(self, purpose, like, *i):
        return pairs(len(like))[1]

    def uniform(self, purpose, count, device="cpu", *i):
        return super().uniform(purpose, count, device, *i)[::4].repeat_interleave(4)


# ---- scalings --------------------------------------------------------------------------------------


def test_the_laws_of_its_components():
    for kind, name in (("objective", "ctm"), ("parameterization", "ctm"), ("path", "own-ode")):
        laws.check(genkit.component(kind, name))


def test_a_jump_to_where_it_starts_is_the_identity_to_the_bit():
    network = genkit.build(genkit.component("network", "mlp"), CONTEXT)
    torch.nn.init.normal_(network.last.weight)
    x, model = noisy().float(), Denoiser(network, scalings())
    assert torch.equal(model(x, T.float(), {}, T.float()), x)
    assert not torch.allclose(model(x, T.float(), {}, 0.9 * T.float()), 0.9 * x)


def test_with_the_exact_network_jumps_are_those_of_the_path_and_add_up():
    x, model = noisy(), Denoiser(Exact(), scalings())
    between = (T + TO) / 2
    assert torch.allclose(model(x, T, {}, TO), jump(x, T, TO), rtol=1e-9)
    assert torch.allclose(model(model(x, T, {}, between), between, {}, TO), model(x, T, {}, TO), rtol=1e-9)


@pytest.mark.parametrize("name", ["ctm", "imm", "flow"])
def test_g_at_s_t_has_the_scalings_of_a_denoiser_in_every_parameterization(name):
    """G = (s/t) x + (1 - s/t) g(x, t, s), so with a network that is told nothing g is the jump to 0."""
    x, model = noisy(), Denoiser(lambda x, c_noise, cond: x.sin(), scalings(name))
    g = denoised(model, x, T)
    assert torch.allclose(model(x, T, {}, TO), expand(TO / T, x) * x + expand(1 - TO / T, x) * g, rtol=1e-9)


def test_g_at_s_t_is_the_mean_of_the_clean_data():
    x, model = noisy(), Denoiser(Exact(), scalings())
    assert torch.allclose(denoised(model, x, T), x * S**2 / (S**2 + expand(T, x) ** 2), rtol=1e-9)
    assert model.parameterization == scalings()  # which was looked at through others


def test_the_network_is_told_the_logarithms_of_both_levels_and_of_none_below_sigma_min():
    c = scalings()(T, TO)
    assert torch.allclose(c.c_noise, torch.stack([T.log() / 4, TO.log() / 4], 1))
    for below in (scalings()(T), scalings()(T, 0 * T), scalings()(T, 0 * T + 0.001)):
        assert torch.allclose(below.c_noise[:, 1], torch.full_like(T, math.log(0.002) / 4))
    assert torch.allclose(scalings()(T).c_skip, 0.25 / (T**2 + 0.25), rtol=1e-12)


# ---- the objective on Gaussian data ----------------------------------------------------------------


@pytest.mark.parametrize("teacher", ["ema", "stop-grad"])
def test_exact_jumps_agree_wherever_they_start_and_end(teacher):
    made = along(program(Exact(), teacher=teacher))
    x0, _ = pairs()
    seen = set()
    for k in range(40):
        values, _ = made.consistency(x0, {}, k, Told(0, k))
        assert values.max() < 1e-18
        seen.add(made.steps(Told(0, k)))
    assert len(seen) > 8
    made.student.network.delta.data.fill_(0.1)
    assert made.consistency(x0, {}, 0, Told(0, 0))[0].mean() > 1e-4


def test_with_heuns_steps_what_is_left_is_the_solvers_error():
    """A step's is of third order, and the distance its square: on four times as many points it is 4^6 times less."""

    def distance(points):
        made = program(Exact(), teacher="stop-grad", points=points, solver_steps=1)
        values = [made.consistency(pairs()[0], {}, k, Told(0, k))[0].mean().item() for k in range(100)]
        return sum(values) / 100

    coarse, fine = distance(35), distance(137)
    assert 1e-14 < fine < coarse / 500 and coarse < 1e-3


def test_training_stands_still_at_the_exact_jumps():
    """The denoising loss is not 0 there, but least: with all moments exact its gradient vanishes."""
    made = along(program(Exact()))
    values = made(Batch(pairs()[0], {}), 0, Told(0)).values
    values.mean().backward()
    assert values.mean() > 1e-2 and made.student.network.delta.grad.abs() < 1e-9
    made.student.network.delta.data.fill_(0.1)
    made(Batch(pairs()[0], {}), 0, Told(0)).values.mean().backward()
    assert made.student.network.delta.grad > 1e-3


@pytest.mark.parametrize("solver", ["heun", "euler"])
def test_its_own_ode_is_followed_by_g_at_s_t(solver):
    made = program(Exact(), path={"use": "own-ode", "solver": solver})
    x, t, r = noisy(), T, 0.9 * T

    def slope(x, t):
        return (x - x * S**2 / (S**2 + expand(t, x) ** 2)) / expand(t, x)

    there = x + expand(r - t, x) * slope(x, t)
    if solver == "heun":
        there = x + expand(r - t, x) * (slope(x, t) + slope(there, r)) / 2
    assert torch.allclose(made.path(x, t, r, x, x, {}), there, rtol=1e-9)


def test_started_from_a_diffusion_model_g_is_that_model_whatever_s():
    spec = genkit.Spec(channels=1, height=8, width=8)
    unet = genkit.component("network", "unet", model_channels=8, num_blocks=1)
    one, two = (genkit.build(unet, genkit.Context(spec=spec, times=times)) for times in (1, 2))
    for p in one.parameters():
        torch.nn.init.normal_(p, std=0.1)
    two.load_state_dict(two.adapted(one.state_dict())[0])
    diffusion = Denoiser(one, genkit.build(genkit.component("parameterization", "edm"), genkit.Context(spec=spec)))
    model, x, t = Denoiser(two, scalings()), torch.randn(5, 1, 8, 8), T.float()
    for g in (denoised(model, x, t), model(x, t), model(x, t, {}, 0 * t)):
        assert torch.allclose(g, diffusion(x, t), rtol=1e-3, atol=1e-4)


def test_the_own_ode_of_nobody_is_refused():
    with pytest.raises(RecipeError, match="follows a student, and none is told"):
        genkit.build(genkit.component("path", "own-ode"), CONTEXT)


# ---- a whole step beside the formulas --------------------------------------------------------------


class Tiny(torch.nn.Module):
    """F = a tanh(x) + b t + c s, t and s as it is told."""

    def __init__(self, *weights):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor(weights, dtype=torch.float64))

    def forward(self, x, c_noise, cond):
        a, b, c = self.weights
        return a * x.tanh() + expand(b * c_noise[:, 0] + c * c_noise[:, 1], x)


def big_g(w, x, t, s, inner=False):
    """G(x, t, s) by the paper's formulas, or g alone."""
    t, s = expand(t, x), expand(s, x)
    f = w[0] * (x / (t**2 + 0.25).sqrt()).tanh() + w[1] * t.log() / 4 + w[2] * s.log() / 4
    g = 0.25 / (t**2 + 0.25) * x + 0.5 * t / (t**2 + 0.25).sqrt() * f
    return g if inner else s / t * x + (1 - s / t) * g


@pytest.mark.parametrize("teacher", ["ema", "stop-grad"])
def test_a_step_has_the_losses_and_the_gradient_of_the_papers_formulas(teacher):
    """Its gradient goes through the teacher's last jump to the student's, and to no weight of the teacher's."""
    made = along(program(Tiny(0.7, -0.3, 0.2), teacher=teacher, denoising=0.6, weighting="snr"))
    w = torch.tensor([0.7, -0.3, 0.2], dtype=torch.float64, requires_grad=True)
    v = w.detach()
    if made.owned is not None:
        v = v + 0.1
        made.owned.network.weights.data.copy_(v)
    key, x0 = Key(3, 5), noisy(6)
    found = made(Batch(x0, {}), 5, key).values
    found.mean().backward()

    n = made.steps(key)
    grid = CONTEXT.levels.sigmas(18)
    i = n + (key.uniform("level", 6) * (18 - n)).floor().long()
    j = (key.uniform("level", 6, "cpu", 1) * (i - n + 1)).floor().long()
    t, u, s, least = grid[i], grid[i - n], grid[j], grid[0].expand(6)
    x_t = add_noise(x0, t, key.normal("eps", x0))
    estimate = big_g(v, big_g(w, x_t, t, s), s, least)
    target = big_g(v, big_g(v, jump(x_t, t, u), u, s), s, least)
    level = made.noise.icdf(key.uniform("level", 6, "cpu", 2))
    x = add_noise(x0, level, key.normal("eps", x0, 1))
    error = (big_g(w, x, level, level, inner=True) - x0).square().mean((1, 2, 3))
    weight = (level**2 + 0.25) / (0.5 * level) ** 2
    exact = (estimate - target.detach()).square().mean((1, 2, 3)) / t**2 + 0.6 * weight * error
    exact.mean().backward()
    assert found.tolist() == pytest.approx(exact.tolist(), rel=1e-9)
    assert made.student.network.weights.grad.tolist() == pytest.approx(w.grad.tolist(), rel=1e-9)


def test_the_teacher_starts_as_the_student_and_follows_it_by_its_decay():
    made = program()
    torch.nn.init.normal_(made.student.network.last.weight)
    made.started()
    before = made.student.network.last.weight.detach().clone()
    assert torch.equal(made.owned.network.last.weight, before)
    torch.nn.init.normal_(made.student.network.last.weight)
    made.after_step(0)
    expected = 0.999 * before + 0.001 * made.student.network.last.weight
    assert torch.allclose(made.owned.network.last.weight, expected, rtol=1e-9)


def test_weights_that_are_held_still_let_gradients_through_and_learn_again_afterwards():
    made, x = program().student, noisy().requires_grad_()
    with still(made):
        made(x, T, {}, TO).sum().backward()
    assert x.grad is not None and all(p.grad is None and p.requires_grad for p in made.parameters())


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_the_number_of_steps_has_its_law_and_is_one_for_all_parts_and_processes(power):
    made = program(points=5, power=power)
    drawn = [made.steps(Key(0, k)) for k in range(4000)]
    for n, count in collections.Counter(drawn).items():
        share = n**power / sum(i**power for i in range(1, 5))
        assert count / 4000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000)), n
    assert set(drawn) == {1, 2, 3, 4}
    keys = [Key(0, 7), Key(0, 7, rank=1, world=2), Key(0, 7).part(3, 8, 12, 16)]
    assert len({made.steps(key) for key in keys}) == 1 and program(points=5, solver_steps=1).steps(Key(0, 7)) == 1


def test_t_and_s_are_drawn_evenly_among_the_points_that_are_left():
    made, x0 = program(points=6), torch.zeros(40_000, 2, 1, 1)
    t, u, s = made.drawn(3, x0, Key(0))
    assert torch.equal(u, t - 3)
    for i in (3, 4, 5):
        assert (t == i).double().mean().item() == pytest.approx(1 / 3, abs=0.01)
        below = torch.bincount(s[t == i]).double() / (t == i).sum()
        assert below.tolist() == pytest.approx([1 / (i - 2)] * (i - 2), abs=0.02)


def test_more_steps_than_the_grid_has_are_refused_in_one_line():
    with pytest.raises(RecipeError, match="18 points leave no room for 18 steps") as error:
        genkit.component("objective", "ctm", solver_steps=18)
    assert "\n" not in str(error.value)


# ---- micro-batches, labels, resuming ---------------------------------------------------------------


@pytest.mark.parametrize("part", [1, 2, 4])
def test_the_gradient_does_not_depend_on_micro_batches(part):
    made = program()
    torch.nn.init.normal_(made.student.network.last.weight, std=0.1)
    made.started()
    made(Batch(noisy(8), {}), 3, Key(0, 3)).values.mean().backward()
    whole = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
    made.zero_grad()
    for micro, start in enumerate(range(0, 8, part)):
        key = Key(0, 3).part(micro, start, start + part, 8)
        (made(Batch(noisy(8), {}).rows(start, start + part), 3, key).values.sum() / 8).backward()
    largest = max(gradient.abs().max() for gradient in whole.values())
    for name, gradient in whole.items():
        assert (dict(made.named_parameters())[name].grad - gradient).abs().max() < 1e-6 * largest, name


def test_every_pass_sees_the_same_labels():
    spec = attrs.evolve(SPEC, classes=4)
    made = program(context=attrs.evolve(CONTEXT, spec=spec), label_drop=0.5, solver_steps=1)
    seen = []
    for model in (made.student, made.owned):
        model.network.register_forward_pre_hook(lambda _, given: seen.append(given[2]["label"]))
    label = torch.arange(200) % 4
    made(Batch(torch.zeros(200, 2, 1, 1, dtype=torch.float64), {"label": label}), 3, Key(0, 3))
    assert len(seen) == 7 and all(torch.equal(seen[0], other) for other in seen)  # 4 jumps, 2 of Heun, 1 denoising
    assert set(seen[0][seen[0] != label].tolist()) == {4}


def test_a_run_that_goes_on_from_its_middle_ends_with_the_same_bits(tmp_path):
    network = {"use": "unet", "model_channels": 4, "num_blocks": 1, "dropout": 0.2}
    recipe = genkit.recipe_of(
        name="ctm",
        dataset="digits",
        objective={"use": "ctm", "solver_steps": 2, "network": network},
        optimizer={"use": "radam", "lr": 1e-3},
        train={"steps": 12, "save_every_steps": 6, "batch_size": 8, "threads": 1},
        evaluate={"samples": 20},
    )
    folder = genkit.run(recipe, tmp_path / "run").folder
    whole, _ = checkpoint.load(folder / "checkpoints" / "step-0000012")
    shutil.rmtree(folder / "checkpoints" / "step-0000012")
    genkit.run(recipe, folder)
    again, _ = checkpoint.load(folder / "checkpoints" / "step-0000012")
    assert whole.keys() == again.keys() and all(torch.equal(again[name], whole[name]) for name in whole)
    assert not torch.equal(whole["program/owned.network.out.weight"], whole["program/student.network.out.weight"])
